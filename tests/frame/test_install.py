"""tools/install.py: when .venv is made, when it is brought up to date, when it is left alone."""

import errno
import fcntl
import importlib.util
import os
import platform
import shutil
import sys
import threading
from pathlib import Path

import pytest


class Installer:
    """tools/install.py of a checkout, with the two slow commands (venv and pip) replaced."""

    def __init__(self, checkout: Path):
        specification = importlib.util.spec_from_file_location(
            "install", checkout / "tools" / "install.py"
        )
        self.module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self.module)
        self.run_for_real, self.module._run = self.module._run, self._pretend
        self.environment = checkout / ".venv"
        self.version_made = platform.python_version()
        self.pip_fails_with = None
        self.commands = []

    def run(self) -> list[str]:
        """Runs main() and returns what it did, in words."""
        self.commands = []
        self.module.main()
        return self.commands

    def make_environment(self, version: str) -> None:
        python = self.environment / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)

    def _pretend(self, command, failure):
        words = [str(word) for word in command]
        if "venv" in words:
            self.commands.append("venv")
            self.make_environment(self.version_made)
        else:
            assert words[0] == str(self.environment / "bin" / "python")
            assert words[-2] == "-e"
            self.commands.append(f"pip {words[-1]}")
            if self.pip_fails_with:
                raise self.pip_fails_with


@pytest.fixture
def installer(checkout, monkeypatch) -> Installer:
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.delenv("EXTRAS", raising=False)
    return Installer(checkout)


def test_the_first_run_installs_and_the_second_does_nothing(installer):
    assert installer.run() == ["venv", "pip .[data,figures,test]"]
    assert installer.run() == []


@pytest.mark.parametrize("name", ["setup.py", "requirements.txt"])
def test_changed_requirements_are_installed_into_the_same_environment(installer, checkout, name):
    installer.run()
    with (checkout / name).open("a") as file:
        file.write("# changed\n")
    assert installer.run() == ["pip .[data,figures,test]"]
    assert installer.run() == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
def test_a_half_finished_install_is_made_afresh(installer, failure):
    installer.pip_fails_with = failure()
    with pytest.raises(failure):
        installer.run()
    leftover = installer.environment / "half a package"
    leftover.touch()
    installer.pip_fails_with = None
    assert installer.run() == ["venv", "pip .[data,figures,test]"]
    assert not leftover.exists()
    assert installer.run() == []


def test_a_failed_update_is_tried_again(installer, checkout):
    installer.run()
    (checkout / "requirements.txt").write_text("# test: other\n")
    installer.pip_fails_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        installer.run()
    installer.pip_fails_with = None
    assert installer.run() == ["pip .[data,figures,test]"]


def test_extras_are_added_and_then_kept(installer, checkout, monkeypatch):
    installer.run()
    monkeypatch.setenv("EXTRAS", "cuda")
    assert installer.run() == ["pip .[cuda,data,figures,test]"]
    monkeypatch.delenv("EXTRAS")
    assert installer.run() == []
    (checkout / "requirements.txt").write_text("# test: other\n")
    assert installer.run() == ["pip .[cuda,data,figures,test]"]


def test_an_interrupted_addition_of_extras_is_not_taken_for_finished(installer, monkeypatch):
    installer.run()
    monkeypatch.setenv("EXTRAS", "cuda")
    installer.pip_fails_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        installer.run()
    installer.pip_fails_with = None
    monkeypatch.delenv("EXTRAS")
    assert installer.run() == ["pip .[data,figures,test]"]


def test_only_a_named_python_replaces_that_of_the_environment(installer, monkeypatch):
    installer.version_made = "3.99.0"
    installer.run()
    assert installer.run() == []
    installer.version_made = platform.python_version()
    monkeypatch.setenv("PYTHON", "python3")
    assert installer.run() == ["venv", "pip .[data,figures,test]"]
    assert installer.run() == []


@pytest.mark.parametrize("version", ["3.10.4", ""])
def test_an_environment_whose_python_stopped_being_usable_is_made_afresh(installer, version):
    installer.run()
    installer.make_environment(version)
    assert installer.run() == ["venv", "pip .[data,figures,test]"]


def test_an_updated_python_gets_its_own_install(installer):
    installer.run()
    installer.make_environment("3.98.0")
    assert installer.run() == ["pip .[data,figures,test]"]


def test_a_moved_checkout_is_installed_again(installer, checkout):
    installer.run()
    moved = checkout.with_name("moved")
    shutil.move(checkout, moved)
    assert Installer(moved).run() == ["pip .[data,figures,test]"]


def test_somebody_elses_environment_is_used_and_never_deleted(installer):
    installer.make_environment("3.12.0")
    treasure = installer.environment / "treasure"
    treasure.touch()
    installer.pip_fails_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        installer.run()
    installer.pip_fails_with = None
    assert installer.run() == ["pip .[data,figures,test]"]
    assert treasure.exists()


@pytest.mark.parametrize("kind", ["file", "broken link", "old environment", "empty environment"])
def test_what_is_in_the_way_is_named_and_kept(installer, kind):
    if kind == "file":
        installer.environment.write_text("treasure")
    elif kind == "broken link":
        installer.environment.symlink_to("nowhere")
    else:
        installer.make_environment("3.10.0" if kind == "old environment" else "")
    with pytest.raises(SystemExit, match=r"is in the way.*move it away"):
        installer.module.run_from_shell()
    assert installer.commands == []
    assert os.path.lexists(installer.environment)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_directory_that_cannot_be_written_is_named(installer, monkeypatch, code):
    def mkdir(path, *arguments):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(SystemExit) as raised:
        installer.module.run_from_shell()
    assert raised.value.code == (
        f"robustjax: cannot use {installer.environment}: {os.strerror(code)}"
    )


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (
            "Obtaining file:///x\n  error: subprocess-exited-with-error\n"
            "      ERROR: No matching distribution found for setuptools>=77\nmore",
            "ERROR: No matching distribution found for setuptools>=77",
        ),
        ("Traceback\n  ...\nModuleNotFoundError: No module named 'pip'", "ModuleNotFoundError"),
        ("", "exit status 3"),
    ],
)
def test_a_failing_command_is_reported_by_the_line_that_says_why(installer, output, cause):
    installer.make_environment("3.12.0")
    program = f"import sys; print({output!r}, end=''); sys.exit(3)"
    with pytest.raises(installer.module.InstallError) as raised:
        installer.run_for_real([sys.executable, "-c", program], "could not do it")
    assert str(raised.value).startswith(f"could not do it ({cause}")
    assert len(str(raised.value).splitlines()) == 1
    assert (installer.environment / "robustjax-pip.log").read_text() == output


def test_a_second_make_waits_for_the_first(installer, checkout):
    descriptor = os.open(checkout, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    second = threading.Thread(target=installer.run)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert installer.commands == []
    os.close(descriptor)
    second.join(20)
    assert installer.commands == ["venv", "pip .[data,figures,test]"]
