"""Winograd's convolution with 3×3 kernels: 16 multiplications for a 2×2 patch in place of 36.

A patch of 2×2 outputs depends on a tile of 4×4 inputs. Both are transformed with additions alone,
in rows and then in columns; in between, each of the 16 entries of a tile is a matrix product over
the channels, all tiles at once. Errors are of the size of the direct sum's, some 1e-6 of the result
in float32.

Source: Fast Algorithms for Convolutional Neural Networks (Lavin & Gray, 2016), section 4.1, whose
letters the transforms go by: BᵀdB of a tile d, GgGᵀ of the kernel g, AᵀmA of their product m.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.models.image_parts import map_images, sum_images

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros above and below, left and right."""

_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_KERNEL_TRANSFORM = np.kron(_G, _G)
"""[16 entries of a tile, 9 entries of a kernel], in rows; below that of a kernel turned around."""
_TURNED_KERNEL_TRANSFORM = _KERNEL_TRANSFORM[:, ::-1]


@partial(jax.jit, static_argnames="padding")
def convolve(inputs: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolves with stride 1.

    Args:
        inputs: floating [B, H, W, C].
        kernel: [3, 3, C, D].
        padding: zeros around the inputs.

    Returns:
        [B, H', W', D] with H' = H + padding - 2.
    """
    return _convolve(inputs, _kernel_tiles(kernel, _KERNEL_TRANSFORM), padding)


@partial(jax.jit, static_argnames="padding")
def input_gradient(cotangent: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """The gradient of `convolve` with respect to its inputs: a convolution with the turned kernel.

    Args:
        cotangent: [B, H', W', D], of the output.
        kernel: [3, 3, C, D].
        padding: of `convolve`.

    Returns:
        [B, H, W, C].
    """
    (top, bottom), (left, right) = padding
    weights = _kernel_tiles(kernel, _TURNED_KERNEL_TRANSFORM).swapaxes(1, 2)
    return _convolve(cotangent, weights, ((2 - top, 2 - bottom), (2 - left, 2 - right)))


@partial(jax.jit, static_argnames="padding")
def kernel_gradient(inputs: jax.Array, cotangent: jax.Array, padding: Padding) -> jax.Array:
    """The gradient of `convolve` with respect to its kernel.

    Args:
        inputs: [B, H, W, C].
        cotangent: [B, H', W', D], of the output.
        padding: of `convolve`.

    Returns:
        [3, 3, C, D].
    """
    channels, features = inputs.shape[3], cotangent.shape[3]

    def products_of(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        tiles = _input_tiles(inputs, padding)
        return jnp.einsum("tbhwc,tbhwd->tcd", tiles, _cotangent_tiles(cotangent))

    at_once = _entries_of_tiles(inputs, padding, max(channels, features))
    products = sum_images(products_of, inputs, cotangent, at_once)
    entries = jnp.matmul(_KERNEL_TRANSFORM.T, products.reshape(16, channels * features))
    return entries.reshape(3, 3, channels, features)


def _convolve(inputs: jax.Array, weights: jax.Array, padding: Padding) -> jax.Array:
    """The convolution of [B, H, W, C] with the transformed kernel [16, C, D]."""
    height, width = _output_size(inputs, padding)

    def outputs_of(inputs: jax.Array) -> jax.Array:
        tiles = _input_tiles(inputs, padding)
        return _patches(jnp.einsum("tbhwc,tcd->tbhwd", tiles, weights))[:, :height, :width]

    at_once = _entries_of_tiles(inputs, padding, max(weights.shape[1:]))
    return map_images(outputs_of, inputs, at_once)


def _entries_of_tiles(inputs: jax.Array, padding: Padding, channels: int) -> int:
    """How many numbers all tiles of an image have."""
    tall, wide = (-(-size // 2) for size in _output_size(inputs, padding))
    return 16 * tall * wide * channels


def _output_size(inputs: jax.Array, padding: Padding) -> tuple[int, int]:
    _, height, width, _ = inputs.shape
    in_height, in_width = map(sum, padding)
    return height + in_height - 2, width + in_width - 2


def _input_tiles(inputs: jax.Array, padding: Padding) -> jax.Array:
    """BᵀdB of every tile: [16, B, tiles in height, tiles in width, C]."""
    (top, _), (left, _) = padding
    tall, wide = (-(-size // 2) for size in _output_size(inputs, padding))
    height, width = inputs.shape[1:3]
    zeros = (
        (0, 0, 0),
        (top, 2 * tall + 2 - top - height, 0),
        (left, 2 * wide + 2 - left - width, 0),
        (0, 0, 0),
    )
    padded = jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), zeros)

    def mixed(d: list[jax.Array]) -> list[jax.Array]:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]

    rows = _stored(mixed([padded[:, row : row + 2 * tall : 2] for row in range(4)]))
    columns = mixed([rows[:, :, :, column : column + 2 * wide : 2] for column in range(4)])
    return _entries(columns)


def _kernel_tiles(kernel: jax.Array, transform: np.ndarray) -> jax.Array:
    """GgGᵀ: [16, C, D]."""
    channels, features = kernel.shape[2:]
    entries = jnp.matmul(transform, kernel.reshape(9, channels * features))
    return entries.reshape(16, channels, features)


def _patches(products: jax.Array) -> jax.Array:
    """AᵀmA of every tile: from [16, B, h, w, D] to [B, 2h, 2w, D]."""

    def summed(m: jax.Array) -> list[jax.Array]:
        return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]

    products = products.reshape(4, 4, *products.shape[1:])
    rows = jnp.stack([jnp.stack(summed(row), axis=3) for row in summed(products)], axis=2)
    batch, tall, _, wide, _, features = rows.shape
    return rows.reshape(batch, 2 * tall, 2 * wide, features)


def _cotangent_tiles(cotangent: jax.Array) -> jax.Array:
    """ApAᵀ of every 2×2 patch p, the transpose of `_patches`: [16, B, h, w, D]."""

    def spread(p: list[jax.Array]) -> list[jax.Array]:
        return [p[0], p[0] + p[1], p[0] - p[1], -p[1]]

    height, width = cotangent.shape[1:3]
    cotangent = jnp.pad(cotangent, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    rows = _stored(spread([cotangent[:, row::2] for row in range(2)]))
    return _entries(spread([rows[:, :, :, column::2] for column in range(2)]))


def _entries(columns: list[jax.Array]) -> jax.Array:
    """The four columns of tiles, each [4, B, h, w, C], as [16, B, h, w, C]."""
    tiles = jnp.stack(columns, axis=1)
    return tiles.reshape(16, *tiles.shape[2:])


def _stored(rows: list[jax.Array]) -> jax.Array:
    """A stack that XLA does not compute again for each of its uses, which would be slower."""
    return jax.lax.optimization_barrier(jnp.stack(rows))
