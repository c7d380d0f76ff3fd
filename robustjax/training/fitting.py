"""Whether the weights of a run fit the images that its network is to be shown."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.training.experiment import create_model

PyTree = Any


def num_classes_of(
    config: TrainConfig,
    variables: PyTree,
    image_shape: Sequence[int],
    *,
    trained_on: Sequence[int] | None = None,
    recorded: int | None = None,
) -> int:
    """How many logits a trained network gives, once it is known to fit some images.

    Args:
      config: names the network.
      variables: its weights.
      image_shape: (H, W, C) of the images that it is to be shown.
      trained_on: (H, W, C) of those that it was trained on; None: not known.
      recorded: how many logits its checkpoint says that it gives; None: read off the weights.

    Raises:
      ValueError: the weights are those of another network, or not made for such images.
    """
    mine = _shapes_of(variables)
    number = recorded or _read_off(config, mine, trained_on or image_shape)
    trained = f"model={config.model} was trained on dataset={config.dataset}"
    if trained_on is not None and tuple(trained_on) != tuple(image_shape):
        raise UserError(
            f"images of {_by(image_shape)} do not fit the network: {trained}, images of "
            f"{_by(trained_on)}"
        )
    expected = {} if number is None else _expected(config, number, image_shape)
    if expected and mine.keys() != expected.keys():
        raise UserError(f"the weights are not those of model={config.model}")
    if number is None or mine != expected:
        raise UserError(f"images of {_by(image_shape)} do not fit the network: {trained}")
    return number


def _read_off(
    config: TrainConfig, mine: dict[str, tuple[int, ...]], image_shape: Sequence[int]
) -> int | None:
    """The size of the last layer: the one in which networks of 2 and of 3 logits differ."""
    two, three = (_expected(config, number, image_shape) for number in (2, 3))
    found = {
        mine[path][axis]
        for path, shape in two.items()
        if len(mine.get(path, ())) == len(shape)
        for axis, size in enumerate(shape)
        if size != three[path][axis]
    }
    return found.pop() if len(found) == 1 else None


def _expected(
    config: TrainConfig, num_classes: int, image_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of such a network; none where it cannot be made."""
    model = create_model(config, num_classes)
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    try:
        return _shapes_of(dict(jax.eval_shape(model.init, jax.random.key(0), images)))
    except Exception:  # Of Flax or JAX, whichever meets the wrong size first.
        return {}


def _shapes_of(variables: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path): tuple(np.shape(leaf)) for path, leaf in leaves}


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
