"""A network as it is evaluated: a function of its variables and of images."""

import flax.linen as nn
import jax
from flax.typing import VariableDict


def forward(model: nn.Module, variables: VariableDict, images: jax.Array) -> jax.Array:
    """The logits that a network gives: running statistics, no dropout.

    Args:
        model: a network of `create`.
        variables: as `initialize` draws them.
        images: float32 [B, H, W, C] in [0, 1].

    Returns:
        [B, K].
    """
    logits = model.apply(variables, images, train=False)
    assert not isinstance(logits, tuple)  # Nothing is mutable.
    return logits
