"""A network as it is evaluated: a function of its variables and of images."""

import flax.linen as nn
import jax
from flax.typing import VariableDict

from robustjax.arguments import refusal


def forward(model: nn.Module, variables: VariableDict, images: jax.Array) -> jax.Array:
    """The logits that a network gives: running statistics, no dropout.

    Args:
        model: a network of `create`.
        variables: as `initialize` draws them.
        images: float32 [B, H, W, C] in [0, 1].

    Returns:
        [B, K].

    Raises:
        ValueError: the network gives more than its logits.
    """
    logits = model.apply(variables, images, train=False)
    if isinstance(logits, tuple):
        raise refusal(f"{type(model).__name__}: logits", "a tuple", "arrays [B, K] alone")
    return logits
