"""What an evaluation has found so far, kept in files until it is whole."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from robustjax.files import Path, write_whole

SECONDS_BETWEEN_SAVES = 30.0


class Unfinished:
    """A folder with one file per attack; the folder goes when the evaluation is whole.

    A file's name holds a digest of all that its content depends on, so that another evaluation
    never goes on with it.

    Attributes:
      folder: where the files are.
    """

    def __init__(self, folder: Path, *depends_on: Any):
        """Args: the folder, and what every attack depends on: arrays, pytrees of them, or JSON."""
        self.folder = folder
        self._digest = _digest(*depends_on)
        self._saved = time.monotonic()

    def path(self, name: str, settings: Mapping[str, Any]) -> Path:
        """The file of an attack with its settings."""
        return self.folder / f"{name}-{_digest(self._digest, name, dict(settings))[:16]}.npz"

    def load(self, name: str, settings: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """What was saved of an attack; None if nothing was, or it cannot be read."""
        path = self.path(name, settings)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                return {entry: stored[entry] for entry in stored.files}
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(
        self, name: str, settings: Mapping[str, Any], *, now: bool, **arrays: np.ndarray
    ) -> None:
        """Saves an attack; if not `now`, only when the last time is half a minute ago."""
        if not now and time.monotonic() - self._saved < SECONDS_BETWEEN_SAVES:
            return
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_whole(self.path(name, settings), content.getvalue())
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Removes the folder, the evaluation being whole."""
        if self.folder.exists():
            self.folder.rmtree()


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        leaves, structure = jax.tree.flatten(part)
        digest.update(str(structure).encode())
        for leaf in leaves:
            if isinstance(leaf, np.ndarray | jax.Array):
                array = np.asarray(leaf)
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
            else:
                digest.update(json.dumps(leaf).encode())
    return digest.hexdigest()
