"""Makefile, .ci/run and the configuration of pytest: what a command does, seen from the shell."""

import os
import re
import shutil
import subprocess
import sys

import pytest


def make(directory, environment, *arguments):
    return subprocess.run(
        ["make", "-C", directory, "--no-print-directory", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("target", [[], ["help"]])
def test_every_target_is_listed_on_a_line_of_its_own(root, environment, target):
    listed = re.findall(r"^make ([a-z-]+) +\S", make(root, environment, *target), re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", (root / "Makefile").read_text(), re.MULTILINE).group(1)
    assert sorted(listed) == sorted(phony.split())


@pytest.mark.parametrize(
    ("target", "command"),
    [
        (
            "test",
            ".venv/bin/python -m pytest -q -n auto --maxprocesses=4 --dist=loadfile tests/frame -x",
        ),
        (
            "test-slow",
            ".venv/bin/python -m pytest -q -m slow -n auto --maxprocesses=4 --dist=loadfile "
            "tests/frame -x",
        ),
        ("bench", ".venv/bin/python -m benchmarks train_step tests/frame -x"),
        ("quickstart", ".venv/bin/python launch/quickstart.py tests/frame -x"),
        ("docs", ".venv/bin/python -m mkdocs build --strict tests/frame -x"),
    ],
)
def test_arguments_are_passed_on_after_the_environment_is_made(root, environment, target, command):
    lines = make(root, environment, "-n", target, "ARGS=tests/frame -x").splitlines()
    assert lines == ["sh tools/bootstrap.sh", command]


def test_a_failing_install_stops_make_before_the_tests(checkout, environment):
    (checkout / ".venv").write_text("in the way")
    result = subprocess.run(
        ["make", "-C", checkout, "test", f"PYTHON={sys.executable}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "is in the way" in result.stderr
    assert "Traceback" not in result.stderr
    assert "-m pytest" not in result.stdout + result.stderr
    assert "no tests ran" not in result.stdout


def test_clean_removes_what_make_made_and_keeps_the_rest(checkout, environment):
    made = [".venv/bin", "build/lib", "robustjax.egg-info", "robustjax/__pycache__"]
    for name in made:
        (checkout / name).mkdir(parents=True)
    before = {path.name for path in checkout.iterdir()}
    make(checkout, environment, "clean")
    assert {path.name for path in checkout.iterdir()} == before - {
        ".venv",
        "build",
        "robustjax.egg-info",
    }
    assert (checkout / "robustjax" / "__init__.py").exists()
    assert not (checkout / "robustjax" / "__pycache__").exists()


@pytest.mark.parametrize(("lint", "test"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_continuous_integration_runs_both_and_fails_if_either_does(
    root, environment, tmp_path, lint, test
):
    (tmp_path / ".ci").mkdir()
    shutil.copy(root / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "Makefile").write_text(
        f"lint:\n\t@echo linted; exit {lint}\n"
        'test:\n\t@test "$$CI" = true || exit 9; if read line; then exit 9; fi; '
        f"echo closing line; exit {test}\n"
    )
    result = subprocess.run(
        [tmp_path / ".ci" / "run"], env=environment, input="x\n", capture_output=True, text=True
    )
    assert (result.returncode != 0) == bool(lint or test)
    assert result.stdout.splitlines() == ["linted", "closing line"]


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("sh", "tools/bootstrap.sh"),
        ("bash", ".ci/run"),
        ("bash", "launch/tpu_pod.sh"),
        ("bash", "launch/slurm.sh"),
    ],
)
def test_scripts_are_executable_and_parse(root, shell, script):
    assert os.access(root / script, os.X_OK)
    subprocess.run([shell, "-n", root / script], check=True)
    assert (root / script).read_text().startswith(("#!/bin/sh\n", "#!/usr/bin/env bash\n"))


def test_files_may_share_a_name_slow_tests_wait_and_unknown_marks_are_errors(
    root, environment, tmp_path
):
    shutil.copy(root / "pyproject.toml", tmp_path)
    for folder in ("first", "second"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / "test_same.py").write_text(
            "import pytest\ndef test_quick(): pass\n@pytest.mark.slow\ndef test_slow(): pass\n"
        )
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    def run():
        result = subprocess.run(
            pytest_command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        return result.returncode, result.stdout

    assert "2 passed, 2 deselected" in run()[1]
    (tmp_path / "tests" / "test_misspelt.py").write_text(
        "import pytest\n@pytest.mark.slwo\ndef test_it(): pass\n"
    )
    status, output = run()
    assert status != 0
    assert "'slwo' not found in `markers`" in output
