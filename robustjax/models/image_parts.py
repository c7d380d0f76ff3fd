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
"""Of a part: 8 MiB in float32. Fewer than half as many leave a product to one core."""


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
    parts, rest = _cut(images, size)
    results = jax.lax.map(function, parts)
    results = results.reshape(len(parts) * size, *results.shape[2:])
    return jnp.concatenate([results, function(rest)]) if len(rest) else results


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
    (parts, rest), (other_parts, other_rest) = _cut(first, size), _cut(second, size)
    if len(rest):
        total = function(rest, other_rest)
    else:
        total = jnp.zeros_like(jax.eval_shape(function, parts[0], other_parts[0]))

    def add(total: jax.Array, part: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + function(*part), None

    return jax.lax.scan(add, total, (parts, other_parts))[0]


def _size(images: int, entries: int) -> int:
    """How many images a part has: without a rest if one can be had at no more than half as many."""
    most = max(1, _ENTRIES // entries)
    if most >= images:
        return images
    divisors = (size for size in range(most, 0, -1) if images % size == 0)
    size = next(divisors)
    return size if 2 * size >= most else most


def _cut(rows: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Parts [P, size, ...], and the rows that are left."""
    whole = len(rows) // size * size
    return rows[:whole].reshape(-1, size, *rows.shape[1:]), rows[whole:]
