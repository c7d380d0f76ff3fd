"""The lock on a folder: one process at a time, and none that has ended."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustjax.runs.lock import Lock, Locked, exclusive

fcntl = pytest.importorskip("fcntl")

ROOT = Path(__file__).resolve().parents[2]

HOLDER = """
import sys, time
from robustjax.runs.lock import Lock
with Lock(sys.argv[1], "training"):
    print("held", flush=True)
    sys.stdin.read()
    open(sys.argv[2], "w").close()
"""

COUNTER = """
import sys, time
from pathlib import Path
from robustjax.runs.lock import exclusive
counter, times = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
for _ in range(times):
    with exclusive(counter.with_name("lock")):
        count = int(counter.read_text())
        time.sleep(0.003)
        counter.write_text(str(count + 1))
"""


@contextlib.contextmanager
def started(program, *arguments):
    """A process that has said its first word."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def finish(process):
    """Lets a process go on to its end."""
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_the_second_process_is_refused_and_told_of_the_first(tmp_path):
    path = tmp_path / "new" / "run.lock"
    with started(HOLDER, path, tmp_path / "done") as holder:
        complaint = f"{path.parent}: training goes on there already, in process {holder.pid}; "
        with pytest.raises(Locked, match="^" + re.escape(complaint)):
            Lock(path, "training").take()
        with pytest.raises(Locked, match=f"in process {holder.pid};"), Lock(path, "training"):
            pytest.fail("two processes have the lock")
        # Whoever was refused has taken nothing away from whoever has it.
        assert path.exists()
        finish(holder)
        assert not path.exists()
        with Lock(path, "training"):
            assert path.exists()
    assert not path.exists()


def test_whoever_is_refused_says_what_itself_wanted_to_do(tmp_path):
    path = tmp_path / "run.lock"
    with Lock(path, "training"), pytest.raises(ValueError, match=f"process {os.getpid()};"):
        Lock(path, "evaluation").take()


@pytest.mark.parametrize("content", ["", "not a number\n", "\xff" * 50])
def test_a_holder_that_cannot_be_told_is_another_process(tmp_path, content):
    path = tmp_path / "run.lock"
    with Lock(path, "training"):
        path.write_text(content)
        with pytest.raises(Locked, match="training goes on there already, in another process; "):
            Lock(path, "training").take()


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "run.lock"
    with started(HOLDER, path, tmp_path / "done") as holder:
        holder.send_signal(signal.SIGKILL)
        assert holder.wait(timeout=30) == -signal.SIGKILL
        # Its file is still there, and is no obstacle.
        assert path.read_text() == f"{holder.pid}\n"
        with Lock(path, "training"):
            assert path.read_text() == f"{os.getpid()}\n"
            with pytest.raises(Locked, match=f"process {os.getpid()};"):
                Lock(path, "training").take()
    assert os.listdir(tmp_path) == []


def test_a_file_of_another_content_is_no_obstacle(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text("123456789123456789\n")
    with Lock(path, "training"):
        assert path.read_text() == f"{os.getpid()}\n"


def test_an_error_gives_the_lock_back(tmp_path):
    path = tmp_path / "run.lock"
    with pytest.raises(KeyError), Lock(path, "training"):
        raise KeyError
    with pytest.raises(KeyError), exclusive(path):
        raise KeyError
    with Lock(path, "training"):
        pass
    assert os.listdir(tmp_path) == []


def test_what_was_not_taken_can_be_given_back(tmp_path):
    path = tmp_path / "run.lock"
    first, second = Lock(path, "training"), Lock(path, "training")
    first.take()
    second.release()
    with pytest.raises(Locked):
        second.take()
    first.release()
    first.release()
    second.take()
    second.release()


def test_a_folder_that_was_removed_meanwhile_does_no_harm(tmp_path):
    path = tmp_path / "folder" / "run.lock"
    with Lock(path, "training"):
        path.unlink()
        path.parent.rmdir()
    assert os.listdir(tmp_path) == []


def test_exclusive_work_waits_for_the_process_before_it(tmp_path):
    path, done = tmp_path / "lock", tmp_path / "done"
    with started(HOLDER, path, done) as holder:
        begin = time.monotonic()
        with (
            pytest.raises(Locked, match=f"process {holder.pid};"),
            exclusive(path, patience_seconds=0.2),
        ):
            pytest.fail("two processes have the lock")
        assert 0.2 <= time.monotonic() - begin < 10
        holder.stdin.close()
        with exclusive(path):
            assert done.exists()


def test_exclusive_work_of_several_processes_loses_nothing(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(started(COUNTER, counter, 15)) for _ in range(3)]
        for process in processes:
            process.stdin.close()
        assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "45"
    assert os.listdir(tmp_path) == ["counter"]


def test_the_lock_of_a_file_that_lost_its_name_is_none(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    flock = fcntl.flock
    attempts = []

    def removed_first(handle, operation):
        # Whoever had the lock gives it back between the opening of the file and its locking.
        if not attempts:
            path.unlink()
        elif len(attempts) == 1:
            path.rename(tmp_path / "old")
            path.write_text("of somebody else")
        attempts.append(handle)
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    lock = Lock(path, "training")
    lock.take(patience_seconds=10)
    assert len(attempts) == 3
    with pytest.raises(Locked):
        Lock(path, "training").take()
    lock.release()
    assert not path.exists()


def test_where_there_are_no_locks_nothing_is_locked(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Lock(tmp_path / "run.lock", "training"), Lock(tmp_path / "run.lock", "training"):
        pass


def test_in_a_bucket_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Lock("gs://bucket/run.lock", "training"), exclusive("gs://bucket/run.lock"):
        assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_made_is_the_systems_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Lock(tmp_path / "file" / "run.lock", "training").take()
    with pytest.raises(IsADirectoryError):
        Lock(tmp_path, "training").take()
