"""tools/bootstrap.sh: which Python is chosen, and what is said where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


class Machine:
    """A machine whose only interpreters are the ones that a test puts there."""

    def __init__(self, directory: Path, checkout: Path):
        self.checkout = checkout
        self.home = directory / "home"
        self.programs = directory / "programs"
        self.programs.mkdir()
        for name in ("sh", "sed", "dirname"):
            (self.programs / name).symlink_to(shutil.which(name))

    def add_python(self, name, version, *, path=None, has_ensurepip=True) -> Path:
        """Adds this very Python, pretending to be `version`; returns the interpreter behind it."""
        prefix = self.home / f"prefix of {name} {version[0]}.{version[1]}"
        base = prefix / "bin" / f"python{version[0]}.{version[1]}"
        base.parent.mkdir(parents=True)
        base.touch(mode=0o755)
        pretence = (
            f"import sys; sys.version_info = {version!r}; sys.base_prefix = {str(prefix)!r}; "
        )
        if not has_ensurepip:
            pretence += "sys.modules['ensurepip'] = None; "
        pretence += "exec(sys.argv[1])"
        self.add_program(name, f'exec \'{sys.executable}\' -c "$PRETENCE" "$2"', path, pretence)
        return base

    def add_program(self, name, command, path=None, pretence="") -> None:
        program = (path or self.programs) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        quoted = pretence.replace("'", "'\\''")
        program.write_text(f"#!/bin/sh\nPRETENCE='{quoted}'\n{command}\n")
        program.chmod(0o755)

    def find(self, **variables):
        return subprocess.run(
            ["sh", self.checkout / "tools" / "bootstrap.sh", "--find"],
            env={"PATH": str(self.programs), "HOME": str(self.home), **variables},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def machine(tmp_path, checkout) -> Machine:
    return Machine(tmp_path, checkout)


def test_plain_python3_is_preferred_and_the_interpreter_behind_it_is_found(machine):
    expected = machine.add_python("python3", (3, 11, 0))
    machine.add_python("python3.12", (3, 12, 0))
    result = machine.find()
    assert result.returncode == 0
    assert result.stdout.strip() == str(expected)


def test_the_newest_named_one_follows_an_unsuitable_python3(machine):
    machine.add_python("python3", (3, 10, 9))
    machine.add_python("python3.11", (3, 11, 0))
    expected = machine.add_python("python3.12", (3, 12, 0))
    assert machine.find().stdout.strip() == str(expected)


def test_a_shim_that_fails_and_an_incomplete_python_are_passed_over(machine):
    machine.add_program("python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    machine.add_python("python3.13", (3, 13, 0), has_ensurepip=False)
    expected = machine.add_python("python3.11", (3, 11, 4))
    assert machine.find().stdout.strip() == str(expected)


def test_a_program_that_prints_a_version_and_is_no_python_is_passed_over(machine):
    machine.add_program("python3", "echo 3.12")
    expected = machine.add_python("python", (3, 12, 4))
    assert machine.find().stdout.strip() == str(expected)


@pytest.mark.parametrize("named", [True, False])
def test_versions_of_pyenv_are_found_without_being_on_the_path(machine, tmp_path, named):
    pyenv = tmp_path / "elsewhere" if named else machine.home / ".pyenv"
    machine.add_python("python3", (3, 9, 1), path=pyenv / "versions" / "3.9.1" / "bin")
    expected = machine.add_python("python3", (3, 12, 1), path=pyenv / "versions" / "3.12.1" / "bin")
    result = machine.find(**({"PYENV_ROOT": str(pyenv)} if named else {}))
    assert result.stdout.strip() == str(expected)


def test_without_a_usable_python_one_sentence_gives_each_reason(machine):
    machine.add_python("python3", (3, 9, 1))
    machine.add_python("python3.12", (3, 12, 0), has_ensurepip=False)
    machine.add_program("python", "exit 1")
    result = machine.find()
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "python3 (3.9, too old)" in result.stderr
    assert "python3.12 (3.12 without the venv and ensurepip modules)" in result.stderr
    assert "python (does not run)" in result.stderr
    assert "Traceback" not in result.stderr


def test_on_a_machine_with_no_python_at_all_one_sentence_is_printed(machine):
    result = machine.find()
    assert result.returncode == 1
    assert "found none" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["python3.12", "missing"])
def test_a_python_that_is_named_is_the_only_candidate(machine, name):
    machine.add_python("python3", (3, 12, 0))
    machine.add_program("python3.12", "exit 1")
    result = machine.find(PYTHON=name)
    assert result.returncode == 1
    assert f"found {name} (does not run)" in result.stderr


def test_a_named_python_wins_over_python3(machine):
    machine.add_python("python3", (3, 11, 0))
    expected = machine.add_python("python3.13", (3, 13, 0))
    assert machine.find(PYTHON="python3.13").stdout.strip() == str(expected)


@pytest.mark.slow
def test_without_a_package_index_the_install_fails_in_one_sentence(checkout, environment):
    environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    environment["PYTHON"] = sys.executable
    result = subprocess.run(
        ["sh", checkout / "tools" / "bootstrap.sh"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "Traceback" not in result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "could not install the requirements (ERROR: Could not find a version" in result.stderr
    assert str(checkout / ".venv" / "robustjax-pip.log") in result.stderr
    assert not (checkout / ".venv" / "robustjax-installed.txt").exists()
