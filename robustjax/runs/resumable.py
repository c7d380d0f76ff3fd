"""What an evaluation has found so far, kept in files until it is whole."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustjax.digest import digest
from robustjax.files import Path, as_file_name, write_whole
from robustjax.npz import NpzError, read_npz

SECONDS_BETWEEN_SAVES = 30.0

_SEAL = "digest"
"""Of all that a file holds: what else lies there under its name is no part of an evaluation."""


class Unfinished:
    """A folder with one file per attack, which goes when the evaluation is whole.

    A file's name holds a digest of all that its content depends on, so that another evaluation
    never goes on with it, nor takes it away.

    Attributes:
      folder: where the files are.
    """

    def __init__(self, folder: Path, *depends_on: Any):
        """Args: the folder, and what every attack depends on: arrays, pytrees of them, or JSON."""
        self.folder = folder
        self._digest = digest(*depends_on)
        self._saved = time.monotonic()
        self._files: set[Path] = set()

    def path(self, name: str, settings: Mapping[str, Any]) -> Path:
        """The file of an attack with its settings."""
        content = digest(self._digest, name, dict(settings))[:16]
        path = self.folder / f"{as_file_name(name)}-{content}.npz"
        self._files.add(path)
        return path

    def load(
        self, name: str, settings: Mapping[str, Any], rows: int, free: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray] | None:
        """What was saved of an attack; None if nothing was, or it cannot be read.

        Args:
          name: of the attack.
          settings: of the attack.
          rows: how many examples there are.
          free: beginnings of the names of arrays that may have another length.

        Returns:
          "done", a whole number from 0 to `rows`, and arrays [rows, ...].
        """
        path = self.path(name, settings)
        if not path.exists():
            return None
        try:
            found = read_npz(path.read_bytes())
        except (NpzError, OSError):
            return None
        if found.pop(_SEAL, np.zeros(())).tolist() != digest(found):
            return None
        done = found.get("done", np.zeros(()))
        if done.shape or done.dtype.kind != "i" or not 0 <= done <= rows:
            return None
        fits = all(
            array.shape[:1] == (rows,)
            for name, array in found.items()
            if name != "done" and not name.startswith(free)
        )
        return found if fits else None

    def save(
        self, name: str, settings: Mapping[str, Any], *, now: bool, **arrays: np.ndarray
    ) -> None:
        """Saves an attack; if not `now`, only when the last time is half a minute ago."""
        if not now and time.monotonic() - self._saved < SECONDS_BETWEEN_SAVES:
            return
        content = io.BytesIO()
        sealed: dict[str, Any] = {**arrays, _SEAL: np.array(digest(arrays))}
        np.savez(content, **sealed)
        write_whole(self.path(name, settings), content.getvalue())
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Removes what this evaluation has written, now that it is whole; then the empty folder."""
        for path in self._files:
            path.unlink(missing_ok=True)
        # Another evaluation has files in it, or it is not there.
        with contextlib.suppress(OSError, ValueError):
            self.folder.rmdir()
