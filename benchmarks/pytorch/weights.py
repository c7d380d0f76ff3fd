"""Weights of a Flax network in the layout of its PyTorch counterpart."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from robustjax.errors import UserError

_NAMES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def to_torch(*collections: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A state dict from Flax collections ("params", "batch_stats"), names joined by dots.

    Kernels [H, W, in, out] become [out, in, H, W], and [in, out] become [out, in].
    """
    return {
        name: torch.from_numpy(np.array(array))
        for collection in collections
        for name, array in _arrays(collection, "")
    }


def load(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copies weights into a network.

    Raises:
      ValueError: a name is on one side alone.
    """
    # PyTorch counts batches, Flax does not.
    own = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    if own != set(weights):
        only_here, only_there = sorted(own - set(weights)), sorted(set(weights) - own)
        raise UserError(f"only in PyTorch: {only_here}; only in Flax: {only_there}")
    model.load_state_dict(weights, strict=False)


def _arrays(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _arrays(value, f"{prefix}{name}.")
            continue
        array = np.asarray(value)
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 2:
            array = array.T
        yield f"{prefix}{_NAMES.get(name, name)}", array
