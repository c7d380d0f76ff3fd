"""What a residual network does with the images before its first block."""

import jax
import jax.numpy as jnp

from robustjax.models.layers import Layers, first_largest

STEMS = ("cifar", "imagenet")


def apply_stem(
    images: jax.Array, layers: Layers, stem: str, *, norm: bool, batch_statistics: bool
) -> jax.Array:
    """The first convolution, and for large images what makes them a quarter of their size.

    "cifar" is a 3×3 convolution of stride 1. "imagenet" is one of 7×7 and stride 2, batch norm,
    activation, and the largest of each 3×3 at stride 2, so that 224×224 images reach the first
    block with 56×56. Call it inside a `nn.compact` method; the layers are "conv1" and "bn1".

    Args:
        images: normalised, [B, H, W, C].
        layers: of the network.
        stem: one of `STEMS`.
        norm: whether batch norm and activation follow "cifar"; they always follow "imagenet".
        batch_statistics: see `Layers.batch_norm`.

    Returns:
        [B, H', W', 64].

    Source: Deep Residual Learning (He et al., 2016), table 1; for networks with pre-activation
        "Identity Mappings" (2016), whose code has norm and activation there too.
    """
    if stem == "cifar":
        x = layers.conv(images, 64, 3, name="conv1")
        if not norm:
            return x
    else:
        x = layers.conv(images, 64, 7, stride=2, name="conv1")
    x = layers.activate(layers.batch_norm(x, batch_statistics=batch_statistics, name="bn1"))
    return x if stem == "cifar" else max_pool_3(x)


def max_pool_3(inputs: jax.Array) -> jax.Array:
    """Takes the largest of each 3×3 square at stride 2, with a border of nothing around.

    The gradient goes to the first of equal entries, row by row, as in PyTorch; written with
    comparisons, as `layers.max_pool` is.

    Args:
        inputs: [B, H, W, C].

    Returns:
        [B, ⌈H/2⌉, ⌈W/2⌉, C].
    """
    height, width = (-(-size // 2) for size in inputs.shape[1:3])
    # The last row and column belong to a square only if the size is odd; more is never looked at.
    padded = jnp.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    columns = [padded[:, :, offset : offset + 2 * width - 1 : 2] for offset in range(3)]
    rows = first_largest(first_largest(columns[0], columns[1]), columns[2])
    parts = [rows[:, offset : offset + 2 * height - 1 : 2] for offset in range(3)]
    return first_largest(first_largest(parts[0], parts[1]), parts[2])
