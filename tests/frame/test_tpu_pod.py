"""launch/tpu_pod.sh, run against a gcloud that writes down what it is asked for."""

import os
import shlex
import subprocess

import pytest

AWKWARD = ["--epsilon=8/255", "--workdir=gs://bucket/a run", "--set", 'note=it\'s $HOME; "x" *']


@pytest.fixture
def pod(root, tmp_path, environment):
    """Runs the script; returns its result and the arguments of every call of git and gcloud."""
    programs = tmp_path / "programs"
    programs.mkdir()
    calls = tmp_path / "calls"
    for name in ("git", "gcloud"):
        program = programs / name
        program.write_text(
            f"#!/bin/bash\nprintf '%s\\0' {name} \"$@\" >>'{calls}'\nprintf '\\n\\0' >>'{calls}'\n"
        )
        program.chmod(0o755)
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"

    def run(*arguments):
        result = subprocess.run(
            ["bash", root / "launch" / "tpu_pod.sh", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        recorded = calls.read_text() if calls.exists() else ""
        return result, [call.split("\0")[:-1] for call in recorded.split("\n\0")[:-1]]

    return run


def gcloud(calls):
    return [call for call in calls if call[0] == "gcloud"]


def test_the_commit_is_copied_set_up_and_trained_on_all_workers(pod):
    result, calls = pod("--name=pod", "--zone=z-b", "--project=p", "--", "--method=trades")
    assert result.returncode == 0, result.stderr
    copy, setup, train = gcloud(calls)
    (archive,) = [call for call in calls if call[:2] == ["git", "archive"]]
    assert archive[-1] == "HEAD"
    assert copy[1:5] == ["compute", "tpus", "tpu-vm", "scp"]
    assert f"--output={copy[5]}" in archive
    assert copy[6] == "pod:robustjax.tar.gz"
    for call in (setup, train):
        assert call[1:6] == ["compute", "tpus", "tpu-vm", "ssh", "pod"]
    for call in (copy, setup, train):
        assert {"--zone=z-b", "--worker=all", "--project=p"} <= set(call)
    assert "EXTRAS=tpu sh tools/bootstrap.sh" in setup[-1]
    assert not os.path.exists(os.path.dirname(copy[5]))


def test_awkward_flags_reach_train_unchanged(pod, tmp_path):
    result, calls = pod("--name=pod", "--zone=z", "--skip_setup", "--", *AWKWARD)
    assert result.returncode == 0, result.stderr
    (train,) = gcloud(calls)
    command = train[-1].removeprefix("--command=")
    python = tmp_path / "robustjax" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    remote = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert remote.stdout.splitlines() == ["launch/train.py", "--coordinator_address=auto", *AWKWARD]


def test_dry_run_prints_the_commands_and_runs_none(pod):
    options = ["--name=pod", "--zone=z", "--"]
    result, calls = pod("--dry_run", *options, *AWKWARD)
    assert result.returncode == 0, result.stderr
    assert not gcloud(calls)
    assert not [call for call in calls if call[:2] == ["git", "archive"]]
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["git", "gcloud", "gcloud", "gcloud"]
    _, real = pod(*options, *AWKWARD)
    assert shlex.split(lines[-1]) == gcloud(real)[-1]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--zone=z", "--", "--epochs=1"], "--name is missing"),
        (["--name=pod", "--", "--epochs=1"], "--zone is missing"),
        (["--name=pod", "--zone=z"], "no flags for launch/train.py"),
        (["--name=pod", "--zone=z", "--epochs=1"], "unknown option '--epochs=1'"),
    ],
)
def test_a_wrong_command_line_is_explained_and_runs_nothing(pod, arguments, complaint):
    result, calls = pod(*arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not calls


def test_a_worker_that_fails_ends_the_script(pod, tmp_path):
    (tmp_path / "programs" / "gcloud").write_text("#!/bin/sh\nexit 7\n")
    result, _ = pod("--name=pod", "--zone=z", "--skip_setup", "--", "--epochs=1")
    assert result.returncode == 7


def test_help_names_every_option(pod, root):
    result, _ = pod("--help")
    assert result.returncode == 0
    for option in ("--name", "--zone", "--project", "--skip_setup", "--dry_run", "--help"):
        assert option in result.stdout
