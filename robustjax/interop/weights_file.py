"""Reads the state dict in a file of weights: .safetensors here, PyTorch's own by PyTorch."""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustjax import installed
from robustjax.arguments import shown
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.interop.safetensors_file import SafetensorsError, read_safetensors
from robustjax.interop.transposition import floats

SAFETENSORS = ".safetensors"
OF_TORCH = (".pt", ".pth", ".ckpt", ".bin", ".tar")

_SAFE_TORCH = (2, 6)
"""Before it, a file made for the purpose could run code although only weights were asked for."""


def read_weights(path: str | os.PathLike, entry: str = "") -> dict[str, np.ndarray]:
    """The state dict in a file; nothing in the file is run.

    Args:
        path: NAME.safetensors, or what torch.save has written (.pt, .pth, .ckpt, .bin, .tar), which
            PyTorch reads, weights alone.
        entry: of a file that holds several things, the one that is the state dict, as "model" or
            "ema.module"; a file that holds one state dict needs none.

    Returns:
        Names -> NumPy arrays; those of a .pt in float32.

    Raises:
        ValueError: it is no such file, or damaged, or holds other things; or PyTorch, which a .pt
            needs, is not installed or too old to be safe.
        OSError: it cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == SAFETENSORS:
        try:
            content: Any = read_safetensors(path).arrays
        except SafetensorsError as error:
            raise UserError(f"weights={path}: {error}") from None
    elif suffix in OF_TORCH:
        content = _read_torch(path)
    else:
        accepted = ", ".join((SAFETENSORS, *OF_TORCH))
        raise UserError(f"weights={path}: accepted are files that end in {accepted}")
    try:
        found = _state_dict(content, entry)
    except UserError as error:
        raise UserError(f"weights={path}: {error}") from None
    return {
        name: floats(name, value) if hasattr(value, "detach") and value.is_floating_point()
        else np.asarray(value)
        for name, value in found.items()
    }  # fmt: skip


def _read_torch(path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    try:
        import torch
    except ImportError:
        raise UserError(
            f"weights={path} is read by PyTorch, weights alone, which is not installed: "
            f"{installed.extra('torch')}; a .safetensors file needs nothing"
        ) from None
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < _SAFE_TORCH:
        raise UserError(
            f"weights={path}: PyTorch {torch.__version__} could be made to run what is in the "
            f"file; accepted is {'.'.join(map(str, _SAFE_TORCH))} or newer"
        )
    with path.open("rb") as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # Of pickle, zipfile, PyTorch, or a seek before the beginning: whichever notices first.
            raise UserError(
                f"weights={path} holds more than weights, or is damaged, and was not read: "
                f"{_reason(error)}"
            ) from None


def _reason(error: Exception) -> str:
    """What is wrong; PyTorch says beside it how to run what is in the file all the same."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    told = re.search(r"(?:WeightsUnpickler error:\s*|(?=Trying to load))(\S.*)", str(error))
    return f"{(told[1] if told else lines[0]).partition('. Please')[0]:.200}"


def _state_dict(content: Any, entry: str) -> Mapping[str, Any]:
    """The state dict in what a file holds."""
    if entry:
        found = content
        for part in entry.split("."):
            if not isinstance(found, Mapping) or part not in found:
                there = _entries(found)
                raise UserError(f"entry={shown(entry)}: accepted are {', '.join(there) or 'none'}")
            found = found[part]
        if not _is_state_dict(found):
            raise UserError(f"entry={shown(entry)} holds no state dict")
        return found
    if _is_state_dict(content):
        return content
    nested = {name: value for name, value in _items(content) if _is_state_dict(value)}
    if len(nested) == 1:
        return next(iter(nested.values()))
    if not nested:
        raise UserError(f"it holds no state dict, but {', '.join(_entries(content)) or 'others'}")
    raise UserError(f"it holds several state dicts: {', '.join(nested)}; say which is meant, entry")


def _items(content: Any) -> list[tuple[str, Any]]:
    return list(content.items()) if isinstance(content, Mapping) else []


def _entries(content: Any) -> list[str]:
    return [str(name) for name, _ in _items(content)][:20]


def _is_state_dict(content: Any) -> bool:
    """Whether a value is names -> arrays, and some of them."""
    return bool(content) and isinstance(content, Mapping) and all(
        isinstance(name, str) and hasattr(value, "shape") and hasattr(value, "dtype")
        for name, value in content.items()
    )  # fmt: skip
