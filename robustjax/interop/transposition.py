"""One array of a layer here and there: its name, its shape, the order of its axes.

Kernels are [height, width, in, out] and [in, out] here, [out, in, height, width] and [out, in] in
PyTorch; an image is flattened with its channels fastest here, slowest there. Numbers are moved and
never computed with, so that there and back is bit for bit.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from robustjax.arguments import shown
from robustjax.errors import UserError
from robustjax.interop.layouts import Family, Layout

Path = tuple[str, ...]
"""Of an array here: ("params", "block1_layer_0", "conv1", "kernel")."""

COUNTER = "num_batches_tracked"
"""What PyTorch's batch norm counts, and nothing here needs."""

_LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
"""What the arrays of a layer are called there, by collection and name here."""


def name_there(layout: Layout, path: Path) -> str | None:
    """The name there of an array here; None if it is of no layer that the layout knows."""
    leaf = _LEAVES.get((path[0], path[-1])) if len(path) > 2 else None
    try:
        return None if leaf is None else f"{layout.rename('/'.join(path[1:-1]))}.{leaf}"
    except KeyError:
        return None


def shape_there(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape there of an array that has a shape here."""
    if path[-1] != "kernel":
        return shape
    return (*reversed(shape[-2:]), *shape[:-2])


def layer_before(family: Family, path: Path) -> str | None:
    """The convolution whose image a kernel sees flattened; None if it sees none."""
    return family.flattened.get("/".join(path[1:-1])) if path[-1] == "kernel" else None


def moved_here(array: np.ndarray, path: Path, channels: int | None) -> np.ndarray:
    """An array of PyTorch as it is here.

    Args:
        array: of there.
        path: of here.
        channels: of the image that a dense layer sees flattened; None if it sees none.
    """
    if path[-1] != "kernel":
        return array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
    if channels is not None:
        array = array.reshape(len(array), channels, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(array.reshape(len(array), -1).T)


def moved_there(array: np.ndarray, path: Path, channels: int | None) -> np.ndarray:
    """An array of here as PyTorch has it; one that is no kernel as it is. See `moved_here`."""
    if path[-1] != "kernel" or array.ndim not in (2, 4):
        return array
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
    features = array.shape[1]
    if channels is not None and not len(array) % channels:
        array = array.reshape(-1, channels, features).transpose(1, 0, 2)
    return np.ascontiguousarray(array.reshape(-1, features).T)


def floats(name: str, value: Any) -> np.ndarray:
    """An array in float32, of NumPy, JAX or PyTorch, wherever it lies.

    Raises:
        ValueError: it holds anything but floating point.
    """
    if hasattr(value, "detach"):  # A tensor of PyTorch, whose bfloat16 NumPy does not know.
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UserError(f"the weights {name!r} are {array.dtype}; accepted is floating point")
    return array.astype(np.float32, copy=False)


def flat(variables: Any) -> dict[Path, Any]:
    """The arrays of a network's variables by their paths.

    Raises:
        ValueError: they are no nested dictionaries.
    """
    if not isinstance(variables, Mapping):
        raise UserError(f'variables={shown(variables)}: accepted is {{"params": ...}}')
    return traverse_util.flatten_dict(dict(variables))
