"""The largest number at which something holds, found bit by bit: a threshold without sorting."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def largest_where(holds: Callable[[jax.Array], jax.Array], ceiling: jax.Array) -> jax.Array:
    """Of each example the largest number below a ceiling at which a condition holds.

    Floating numbers of 0 and more are in the order of their bits. So halving what is left of them
    finds the very number, at any magnitude, in as many evaluations as a number has bits.

    Args:
      holds: takes numbers `[B, 1]` to bool `[B, 1]`, each row by itself: true up to some number and
        false from there on. That it is true at 0 is taken for granted, and not asked.
      ceiling: floating `[B, 1]`, finite, 0 or more; what holds there is not asked either.

    Returns:
      `[B, 1]`; 0 where the ceiling is 0. No derivative passes through it.
    """
    dtype = ceiling.dtype
    bits = jnp.finfo(dtype).bits
    whole = jnp.int64 if bits == 64 else jnp.int32

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = low + (high - low) // 2
        true = holds(jax.lax.bitcast_convert_type(middle, dtype))
        return jnp.where(true, middle, low), jnp.where(true, high, middle)

    high = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(ceiling), whole)
    # The first bit is the sign's.
    low, _ = jax.lax.fori_loop(0, bits - 1, halve, (jnp.zeros_like(high), high))
    return jax.lax.bitcast_convert_type(low, dtype)
