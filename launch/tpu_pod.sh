#!/usr/bin/env bash
# Starts the same launch/train.py on every worker of a Cloud TPU pod slice.

set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: launch/tpu_pod.sh --name=TPU --zone=ZONE [options] -- FLAGS_OF_TRAIN...

Copies the current commit to every worker of a Cloud TPU VM, makes its .venv there with the "tpu"
extra, and runs launch/train.py with the given flags on all workers at once.

  --name=TPU        name of the TPU VM, as in: gcloud compute tpus tpu-vm list
  --zone=ZONE       its zone, e.g. us-central2-b
  --project=ID      its Google Cloud project (default: the one gcloud is configured with)
  --skip_setup      run only: the workers have this commit and its environment already
  --dry_run         print the commands, run none
  --help            print this text

The flags after -- reach launch/train.py as they are, after --coordinator_address=auto, with
which the workers find each other. Give a --workdir that all workers share: a Cloud Storage
bucket. The workers write to this terminal, so start the command where it can stay, e.g. in
tmux. A run that was cut off continues from its latest checkpoint when it is started again with
the same --workdir.

Example:
  launch/tpu_pod.sh --name=my-pod --zone=us-central2-b -- \
      --flagfile=launch/trades.flags --workdir=gs://my-bucket/trades
TEXT
}

fail() {
    printf 'tpu_pod.sh: %s (see --help)\n' "$1" >&2
    exit 2
}

name= zone= project= skip_setup=false dry_run=false
while (($#)); do
    case $1 in
        --name=*) name=${1#*=} ;;
        --zone=*) zone=${1#*=} ;;
        --project=*) project=${1#*=} ;;
        --skip_setup) skip_setup=true ;;
        --dry_run) dry_run=true ;;
        --help | -h) usage && exit ;;
        --) shift && break ;;
        *) fail "unknown option '$1'; flags of train.py come after --" ;;
    esac
    shift
done
[[ -n $name ]] || fail "--name is missing"
[[ -n $zone ]] || fail "--zone is missing"
(($#)) || fail "no flags for launch/train.py after --"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
where=(--zone="$zone" --worker=all)
[[ -z $project ]] || where+=(--project="$project")

# What is printed can be pasted, and what is sent survives the shell of the workers.
quoted() {
    printf '%q ' "$@"
}

run() {
    if $dry_run; then
        quoted "$@" && echo
    else
        "$@"
    fi
}

on_workers() {
    run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --command="$1"
}

if ! $skip_setup; then
    if [[ -n $(git status --porcelain) ]]; then
        echo "tpu_pod.sh: uncommitted changes stay here; the workers get commit $(git rev-parse --short HEAD)" >&2
    fi
    directory=/tmp
    if ! $dry_run; then
        directory=$(mktemp -d)
        trap 'rm -rf "$directory"' EXIT
    fi
    archive=$directory/robustjax.tar.gz
    run git archive --format=tar.gz --output="$archive" HEAD
    run gcloud compute tpus tpu-vm scp "$archive" "$name:robustjax.tar.gz" "${where[@]}"
    on_workers 'set -e
mkdir -p robustjax && tar -xzf robustjax.tar.gz -C robustjax && cd robustjax
if ! sh tools/bootstrap.sh --find >/dev/null 2>&1; then
    sudo apt-get -qq update
    sudo apt-get -qq install -y python3.12-venv || sudo apt-get -qq install -y python3.11-venv
fi
EXTRAS=tpu sh tools/bootstrap.sh'
fi

on_workers "cd robustjax && exec .venv/bin/python launch/train.py --coordinator_address=auto $(quoted "$@")"
