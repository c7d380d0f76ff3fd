"""Makes .venv with robustjax and its requirements in it, or leaves it alone where that is done.

Run by tools/bootstrap.sh, with an interpreter that is new enough and in no virtual environment.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "robustjax-installed.txt"
UNFINISHED = ENVIRONMENT / "robustjax-unfinished.txt"
LOG = ENVIRONMENT / "robustjax-pip.log"
ALWAYS = {"data", "figures"}
"""Extras that training from launch/ needs, also where EXTRAS names an accelerator alone."""


class InstallError(Exception):
    """Something that a person has to mend; the message is one sentence."""


def main() -> None:
    """Brings .venv up to date, one process at a time."""
    requested = set(filter(None, os.environ.get("EXTRAS", "").split(","))) or {"test"}
    with _one_at_a_time():
        version = _environment_version()
        key, installed = _read_stamp()
        fits = key == _key(version) and not _wants_other_python(version)
        if fits and requested <= installed:
            return
        started = time.monotonic()
        if _must_be_made(version):
            _make_environment()
        _install(requested | installed)
        print(f"robustjax: .venv is ready ({time.monotonic() - started:.0f} s)", flush=True)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Holds a lock on the checkout, so that a second make waits instead of installing on top."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        # Some network file systems cannot lock a directory; then nothing guards.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _environment_version() -> str:
    """Returns the version of .venv's Python, "" where that does not run or has no pip."""
    probe = "import pip, platform; print(platform.python_version())"
    try:
        answer = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def _read_stamp() -> tuple[str, set[str]]:
    """Returns the key and the extras of the last finished install, "" and none without one."""
    try:
        key, extras = STAMP.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return "", set()
    return key, set(extras.split(","))


def _key(version: str) -> str:
    """Returns a digest of what an install depends on: requirements, place and Python."""
    digest = hashlib.sha256(f"{ROOT}\n{version}\n".encode())
    for name in ("setup.py", "requirements.txt"):
        digest.update(hashlib.sha256((ROOT / name).read_bytes()).digest())
    return digest.hexdigest()


def _wants_other_python(version: str) -> bool:
    """Says whether PYTHON names another version than .venv has."""
    return bool(os.environ.get("PYTHON")) and version != platform.python_version()


def _must_be_made(version: str) -> bool:
    """Says whether .venv is to be made afresh; one that somebody else made is never deleted."""
    if not os.path.lexists(ENVIRONMENT) or UNFINISHED.exists():
        return True
    usable = _minor(version) >= (3, 11) and not _wants_other_python(version)
    if not usable and not STAMP.exists():
        raise InstallError(
            f"{ENVIRONMENT} is in the way: it was not made by make, and is no environment of "
            f"the Python that is wanted, with pip; move it away, then run make again"
        )
    return not usable


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split(".")[:2]) if version else ()


def _make_environment() -> None:
    print(f"robustjax: making .venv with Python {platform.python_version()}", flush=True)
    if ENVIRONMENT.exists():
        shutil.rmtree(ENVIRONMENT)
    ENVIRONMENT.mkdir()
    UNFINISHED.touch()
    _run([sys.executable, "-m", "venv", ENVIRONMENT], "could not make .venv")


def _install(extras: set[str]) -> None:
    print("robustjax: installing the requirements (about 1 GB, some minutes)", flush=True)
    STAMP.unlink(missing_ok=True)
    names = ",".join(sorted(extras | ALWAYS))
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "-e", f".[{names}]"], "pip could not install the requirements")
    STAMP.write_text(f"{_key(_environment_version())}\n{names}\n", encoding="utf-8")
    UNFINISHED.unlink(missing_ok=True)


def _run(command: list[str | Path], failure: str) -> None:
    """Runs a command with its output in LOG, of which a failure quotes the line that says why."""
    with LOG.open("w", encoding="utf-8") as log:
        status = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    if status:
        lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
        # pip's own errors are in capitals, also when they come from a pip that it started.
        errors = [line for line in lines if "ERROR: " in line]
        cause = (errors or lines[-1:] or [f"exit status {status}"])[0].strip(" .")
        raise InstallError(
            f"{failure} ({cause}); the whole output is in {LOG}. "
            f"Where it names the network, or finds no version, check the connection and "
            f"pip's settings (pip config list), then run make again"
        )


def run_from_shell() -> None:
    """Runs main(), and ends with one sentence and status 1 where that fails."""
    try:
        main()
    except InstallError as error:
        sys.exit(f"robustjax: {error}")
    except OSError as error:
        sys.exit(f"robustjax: cannot use {error.filename or ROOT}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit("robustjax: interrupted; run make again to start over")


if __name__ == "__main__":
    run_from_shell()
