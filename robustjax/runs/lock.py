"""A lock on a folder, which its process holds as long as it lives and not a moment longer."""

import contextlib
import os
import time
from collections.abc import Iterator
from types import TracebackType

from robustjax.errors import UserError
from robustjax.files import Path, is_local

_POLL_SECONDS = 0.05


class Locked(UserError):
    """Another process works in the folder; the message says which."""


class Lock:
    """A file whose lock the operating system takes back when the process ends, however it ends.

    A bucket has no locks, and neither have some file systems; there nothing is locked.

    Args:
      path: of the file; there while the lock is held, and after a process that was killed.
      what: is going on in the folder, for the message of whoever comes second.
    """

    def __init__(self, path: str | os.PathLike, what: str) -> None:
        self._path = Path(path)
        self._what = what
        self._handle: int | None = None

    def __enter__(self) -> "Lock":
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def take(self, patience_seconds: float = 0.0) -> None:
        """Takes the lock.

        Args:
          patience_seconds: how long to wait for whoever has it.

        Raises:
          Locked: another process has it.
          OSError: the file cannot be made.
        """
        if not is_local(self._path):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + patience_seconds
        while self._handle is None:
            self._handle = self._attempt()
            if self._handle is None:
                if time.monotonic() >= deadline:
                    raise Locked(self._complaint())
                time.sleep(_POLL_SECONDS)
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.write(self._handle, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Gives the lock back, if this has it."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._handle)
            self._handle = None

    def _attempt(self) -> int | None:
        """The open file, if its lock was free, and it is still the one that bears the name."""
        handle = os.open(os.fspath(self._path), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _try_to_lock(handle) and os.path.samestat(os.fstat(handle), os.stat(self._path)):
                return handle
        except FileNotFoundError:  # Whoever had it has just taken it away.
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        return None

    def _complaint(self) -> str:
        holder = ""
        with contextlib.suppress(OSError):
            holder = self._path.read_bytes()[:20].decode(errors="replace").strip()
        who = f"process {holder}" if holder.isdecimal() else "another process"
        return (
            f"{self._path.parent}: {self._what} goes on there already, in {who}; wait for it, or "
            "name another folder"
        )


@contextlib.contextmanager
def exclusive(path: str | os.PathLike, patience_seconds: float = 60.0) -> Iterator[None]:
    """Keeps other processes out of a short piece of work; they wait for each other.

    Args:
      path: of the file that is locked.
      patience_seconds: how long to wait.

    Raises:
      Locked: it took too long.
      OSError: the file cannot be made.
    """
    lock = Lock(path, "writing")
    lock.take(patience_seconds)
    try:
        yield
    finally:
        lock.release()


def _try_to_lock(handle: int) -> bool:
    """Whether this process has the lock now; also where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Not on Windows.
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # A file system without locks.
        return True
    return True
