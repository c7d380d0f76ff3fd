#!/usr/bin/env bash
#SBATCH --job-name=robustjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --signal=TERM@120
# Trains in all tasks of a Slurm job, one a GPU.

set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: sbatch [options of sbatch] launch/slurm.sh FLAGS_OF_TRAIN...

Runs launch/train.py in every task of a Slurm job, as one run: the tasks find each other, and each
uses one of its node's GPUs. Submit it from the checkout, whose .venv all nodes share.

  --help            print this text

Without options of sbatch it asks for two nodes with eight GPUs and as many tasks each; options
on the command line win. A node needs as many tasks as GPUs, all of which each task has to see:
--gpus-per-node is right, --gpus-per-task is not.

The flags reach launch/train.py as they are, after --coordinator_address=auto. Give a --workdir on a
disk that all nodes share. A task that fails ends the others within a minute, and the job fails. Two minutes before its time is up the run saves and stops; the same command, submitted
again, continues from the latest checkpoint.

Example:
  sbatch --nodes=4 --ntasks-per-node=4 --gpus-per-node=4 --time=8:00:00 launch/slurm.sh \
      --flagfile=launch/trades.flags --workdir=/shared/runs/trades
TEXT
}

fail() {
    printf 'slurm.sh: %s (see --help)\n' "$1" >&2
    exit 2
}

(($#)) || fail "no flags for launch/train.py"
case $1 in
    --help | -h) usage && exit ;;
esac
[[ -n ${SLURM_JOB_ID-} ]] || fail "this is no Slurm job; submit it with sbatch"
# Slurm runs a copy of this script from a folder of its own.
cd "${SLURM_SUBMIT_DIR:-.}"
[[ -f launch/train.py ]] || fail "$PWD has no launch/train.py; submit from the checkout"
[[ -x .venv/bin/python ]] || fail "$PWD/.venv is missing; make install EXTRAS=cuda makes it"

exec srun --kill-on-bad-exit=1 .venv/bin/python -u launch/train.py \
    --coordinator_address=auto "$@"
