"""Decoded arrays kept on disk, so that a data set is decoded once and not in every run.

One entry is one uncompressed .npz file: it is replaced in one step, and every array is compared
with its checksum whenever the entry is read.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robustjax.cache import cache_directory
from robustjax.npz import NpzError, NpzFile

_FINGERPRINT = "fingerprint"


def digest(value: object) -> str:
    """A short text that changes with `value`, anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def read(name: str, fingerprint: str) -> dict[str, np.ndarray] | None:
    """Read an entry back.

    Args:
        name: Name of the entry.
        fingerprint: What the entry must have been written with.

    Returns:
        The arrays, or None where there is no entry, or a stale or damaged one.
    """
    try:
        with NpzFile(_path(name)) as archive:
            if archive.text(_FINGERPRINT) != fingerprint:
                return None
            return {key: archive[key] for key in archive if key != _FINGERPRINT}
    except (OSError, KeyError, NpzError):
        return None


def write(name: str, fingerprint: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an entry, replacing any older one in one step; do nothing where that is impossible.

    Args:
        name: Name of the entry.
        fingerprint: What `read` will have to ask for.
        arrays: The arrays to keep.
    """
    temporary = None
    try:
        path = _path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp"
        )
        with os.fdopen(handle, "wb") as file:
            content: dict[str, Any] = {_FINGERPRINT: np.array(fingerprint), **arrays}
            np.savez(file, **content)
        os.replace(temporary, path)
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _path(name: str) -> Path:
    return cache_directory() / f"{name}.npz"
