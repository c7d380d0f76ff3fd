"""How weights are drawn, and how a network's variables are made from a key and an image shape."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import VariableDict

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for convolution and linear kernels, U(-1/√fan_in, 1/√fan_in)."""

fan_in_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""Kaiming normal, N(0, 2/fan_in) (He et al., 2015); JAX's own `he_normal` is truncated."""

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""N(0, 2/(k²·out)), of wide residual networks and of Madry et al.'s."""


def torch_uniform_bias(fan_in: int) -> nn.initializers.Initializer:
    """Returns PyTorch's default for biases, U(-1/√fan_in, 1/√fan_in)."""
    limit = 1 / math.sqrt(fan_in)

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return draw


def initialize(model: nn.Module, key: jax.Array, image_shape: tuple[int, int, int]) -> VariableDict:
    """Draws the variables of `model` in one compiled call.

    Args:
        model: a network of `create`.
        key: one PRNG key.
        image_shape: (height, width, channels) of one image; it fixes the sizes of dense layers.

    Returns:
        {"params": ...}, and "batch_stats" where the network has batch norm; float32 leaves.

    Raises:
        ValueError: an image too small for the network.
    """
    return _initialize(model, key, tuple(image_shape))


def parameter_count(model: nn.Module, image_shape: tuple[int, int, int] = (32, 32, 3)) -> int:
    """Counts the trained numbers of `model` without computing anything.

    Args:
        model: a network of `create`.
        image_shape: (height, width, channels) of one image.

    Returns:
        The number of entries of "params": batch-norm statistics are not in it.

    Raises:
        ValueError: an image too small for the network.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


# A module is hashable, so that the same network is compiled once, whatever the number of seeds.
@partial(jax.jit, static_argnums=(0, 2))
def _initialize(
    model: nn.Module, key: jax.Array, image_shape: tuple[int, int, int]
) -> VariableDict:
    return model.init(key, jnp.zeros((1, *image_shape)))
