"""A few images at a time, so that what is computed on the way stays in a CPU's cache.

An algorithm that first writes several numbers for each input (Winograd's tiles, a kernel's taps)
spends most of its time on main memory, and on getting memory from the system, if it does so for a
whole batch at once. Parts of some megabytes are 2 to 5 times faster, and still large enough for
their matrix products to use all cores.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_ENTRIES = 2**21
"""Of a part: 8 MiB in float32. Half as many would leave a product to one core."""


def map_images(
    function: Callable[[jax.Array], jax.Array], images: jax.Array, entries: int
) -> jax.Array:
    """The result [B, ...] of a function of images [B, ...] that treats each by itself.

    Args:
      function: of some of the images.
      images: [B, ...].
      entries: how many numbers it makes of one image on the way.
    """
    size = _size(len(images), entries)
    if size >= len(images):
        return function(images)
    of_part = jax.eval_shape(function, images[:size])

    def put(results: jax.Array, first: jax.Array | int, part: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(results, function(part), first, 0)

    def with_part(number: jax.Array, results: jax.Array) -> jax.Array:
        first = number * size
        return put(results, first, jax.lax.dynamic_slice_in_dim(images, first, size))

    results = jnp.full((len(images), *of_part.shape[1:]), _first_entry(images), of_part.dtype)
    whole = len(images) // size
    results = jax.lax.fori_loop(0, whole, with_part, results)
    rest = images[whole * size :]
    return put(results, whole * size, rest) if len(rest) else results


def sum_images(
    function: Callable[[jax.Array, jax.Array], jax.Array],
    first: jax.Array,
    second: jax.Array,
    entries: int,
) -> jax.Array:
    """The sum over the images of a function of two arrays [B, ...] that adds them up itself.

    Args:
      function: of some images' rows of both.
      first: [B, ...].
      second: [B, ...].
      entries: how many numbers it makes of one image on the way.
    """
    size = _size(len(first), entries)
    if size >= len(first):
        return function(first, second)
    whole = len(first) // size

    def with_part(number: jax.Array, total: jax.Array) -> jax.Array:
        parts = (
            jax.lax.dynamic_slice_in_dim(rows, number * size, size) for rows in (first, second)
        )
        return total + function(*parts)

    of_part = jax.eval_shape(function, first[:size], second[:size])
    zero = jnp.minimum(jnp.nan_to_num(jnp.abs(_first_entry(first))), 0)
    total = jnp.full(of_part.shape, zero, of_part.dtype)
    total = jax.lax.fori_loop(0, whole, with_part, total)
    rest = first[whole * size :], second[whole * size :]
    return total + function(*rest) if len(rest[0]) else total


def _first_entry(images: jax.Array) -> jax.Array:
    """What a loop's results begin as, in place of a constant.

    Constants of one shape are one to XLA. It copies it for every loop of a program, before any of
    them has begun: the results of all layers would be in memory at once.
    """
    return jax.lax.stop_gradient(images[(0,) * images.ndim])


def _size(images: int, entries: int) -> int:
    """How many images a part has: all that fit, or half of them or more if that leaves no rest."""
    most = max(1, _ENTRIES // entries)
    if most >= images:
        return images
    divisors = (size for size in range(most, 0, -1) if images % size == 0)
    size = next(divisors)
    return size if 2 * size >= most else most
