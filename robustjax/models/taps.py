"""A convolution as one matrix product: under every output, the inputs that its kernel sees.

An entry of a kernel with the inputs under it is a tap. All taps of an output next to each other are
a row; the rows times the kernel are the convolution, and times the outputs' gradient that of the
kernel. A few images at a time, the copies of the inputs never leave the cache.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from robustjax.models.image_parts import map_images, sum_images

Padding = tuple[tuple[int, int], tuple[int, int]]


@partial(jax.jit, static_argnames=("strides", "padding"))
def convolve(
    inputs: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding
) -> jax.Array:
    """Convolves.

    Args:
        inputs: floating [B, H, W, C].
        kernel: [h, w, C, D].
        strides: in height and width.
        padding: zeros above and below, left and right.

    Returns:
        [B, H', W', D].
    """
    tall, wide, channels, features = kernel.shape
    size, rows = (tall, wide), kernel.reshape(tall * wide * channels, features)
    output_size = [
        (extent + sum(zeros) - entries) // stride + 1
        for extent, zeros, entries, stride in zip(
            inputs.shape[1:3], padding, size, strides, strict=True
        )
    ]

    def outputs_of(inputs: jax.Array) -> jax.Array:
        return jnp.einsum("bhwc,cd->bhwd", _taps(inputs, output_size, size, strides, padding), rows)

    return map_images(outputs_of, inputs, math.prod(output_size) * max(rows.shape))


@partial(jax.jit, static_argnames=("size", "strides", "padding"))
def kernel_gradient(
    inputs: jax.Array,
    cotangent: jax.Array,
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> jax.Array:
    """The gradient of `convolve` with respect to its kernel.

    Args:
        inputs: [B, H, W, C].
        cotangent: [B, H', W', D], of the output.
        size: of the kernel, h and w.
        strides: of `convolve`.
        padding: of `convolve`.

    Returns:
        [h, w, C, D].
    """
    output_size = cotangent.shape[1:3]
    channels, features = inputs.shape[3], cotangent.shape[3]

    def products_of(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        rows = _taps(inputs, output_size, size, strides, padding)
        return jnp.einsum("bhwc,bhwd->cd", rows, cotangent)

    entries = math.prod(output_size) * max(math.prod(size) * channels, features)
    return sum_images(products_of, inputs, cotangent, entries).reshape(*size, channels, features)


def _taps(
    inputs: jax.Array,
    output_size: Sequence[int],
    size: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
) -> jax.Array:
    """Under every output, row by row of the kernel: [B, H', W', h·w·C]."""
    padded = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    tall, wide = (
        (count - 1) * stride + 1 for count, stride in zip(output_size, strides, strict=True)
    )
    taps = [
        padded[:, row : row + tall : strides[0], column : column + wide : strides[1]]
        for row in range(size[0])
        for column in range(size[1])
    ]
    # Without the barrier XLA would gather each tap again for every entry of the product.
    return jax.lax.optimization_barrier(jnp.concatenate(taps, axis=3))
