"""launch/slurm.sh, where srun starts the tasks on this machine."""

import os
import signal
import subprocess
import sys
import time

import pytest

SRUN = """\
#!/bin/bash
printf '%s\\n' "$@" >calls
[[ $1 == --kill-on-bad-exit=1 ]] && shift
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_NODES=1
tasks=()
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task "$@" >"$task.out" 2>&1 &
    tasks+=($!)
    echo $! >"$task.pid"
done
code=0
for task in "${tasks[@]}"; do wait "$task" || code=$?; done
exit $code
"""
PYTHON = """\
#!/bin/bash
exec "{python}" "$@"
"""


@pytest.fixture
def job(root, tmp_path, environment):
    """Starts the script in a checkout of its own; its process."""
    for name in ("launch", "robustjax"):
        (tmp_path / name).symlink_to(root / name)
    programs = {
        "programs/srun": SRUN,
        ".venv/bin/python": PYTHON.format(python=sys.executable),
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    environment["PATH"] = f"{tmp_path / 'programs'}:{os.environ['PATH']}"
    environment["SLURM_SUBMIT_DIR"] = str(tmp_path)

    def start(*arguments, job="1234"):
        return subprocess.Popen(
            ["bash", root / "launch" / "slurm.sh", *arguments],
            cwd="/",
            env=environment | {"SLURM_JOB_ID": job, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_awkward_flags_reach_every_task(job, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' $SLURM_PROCID \"$@\"\n")
    awkward = ["--epsilon=8/255", "--workdir=/a run", "--set", 'note=it\'s $HOME; "x" *']
    process = job(*awkward)
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "calls").read_text().startswith("--kill-on-bad-exit=1\n")
    for task in "01":
        said = (tmp_path / f"{task}.out").read_text().splitlines()
        expected = [task, "-u", "launch/train.py", "--coordinator_address=auto", *awkward]
        assert said == expected


@pytest.mark.parametrize(
    ("arguments", "job_id", "complaint"),
    [([], "1", "no flags for launch/train.py"), (["--epochs=1"], "", "this is no Slurm job")],
)
def test_what_is_missing_is_said_in_one_line(job, arguments, job_id, complaint):
    process = job(*arguments, job=job_id)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert complaint in said and len(said.splitlines()) == 1


def test_help_needs_no_job(job):
    process = job("--help", job="")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "sbatch" in said


FLAGS = """
--method=standard --model=digits_cnn --dataset=digits --epsilon=0.1 --steps=2 --step_size=0.05
--measure_steps=2 --measure_examples=64 --holdout=64 --batch_size=128
--learning_rate=0.05 --schedule=constant
""".split()  # noqa: SIM905


@pytest.mark.slow
def test_two_tasks_train_as_one_run(job, tmp_path):
    process = job(*FLAGS, "--epochs=1", f"--workdir={tmp_path / 'run'}", job=str(os.getpid()))
    process.communicate(timeout=600)
    said = [(tmp_path / f"{task}.out").read_text() for task in "01"]
    assert process.returncode == 0, said
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_failure_of_one_task_ends_the_other_with_a_message(job, tmp_path, victim):
    workdir = f"--workdir={tmp_path / 'run'}"
    process = job(*FLAGS, "--epochs=5000", "--checkpoint_every=5000", workdir, job=str(os.getpid()))
    log = tmp_path / "0.out"
    until = time.monotonic() + 600
    while not (log.exists() and "epoch " in log.read_text()):
        assert process.poll() is None and time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    os.kill(int((tmp_path / f"{victim}.pid").read_text()), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    said = (tmp_path / f"{1 - victim}.out").read_text()
    assert "another process of this run has ended" in said or "another task died" in said
