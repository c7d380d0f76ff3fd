"""One random key per example, so that what is drawn for an example never depends on its company."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import kind, refusal, shown


def checked_key(key: jax.Array, batch_size: int) -> jax.Array:
    """Sees that there is one key, or one per example, and makes it typed.

    Args:
      key: one key, typed (`jax.random.key`) or raw (`jax.random.PRNGKey`, uint32), or `batch_size`
        keys, typed `[B]` or raw `[B, n]`.
      batch_size: the number of examples B.

    Returns:
      A typed key, or typed keys `[B]`.

    Raises:
      ValueError: `key` is no key, or there are keys but not `batch_size` of them.
    """
    if not hasattr(key, "dtype"):
        raise refusal("key", shown(key), "random keys of JAX, such as jax.random.key(0)")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.ndim not in (1, 2):
            accepted = "one random key, or one per example, of jax.random.key or jax.random.PRNGKey"
            raise refusal("key", kind(key), accepted)
        try:
            key = jax.random.wrap_key_data(key)
        except TypeError as error:
            raise refusal("key", kind(key), f"shapes of a random key ({error})") from error
    if key.shape not in ((), (batch_size,)):
        accepted = f"one key, or one for each of the {batch_size} examples"
        raise refusal("key", kind(key), accepted)
    return key


def per_example_keys(key: jax.Array, batch_size: int) -> jax.Array:
    """Gives every example its own key.

    Args:
      key: one key, which is folded with each example's position; or `batch_size` keys, which are
        taken as they are. Typed or raw, as for `checked_key`.
      batch_size: the number of examples B.

    Returns:
      Typed keys `[B]`.

    Raises:
      ValueError: as for `checked_key`.
    """
    key = checked_key(key, batch_size)
    if key.ndim == 1:
        return key
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(jnp.arange(batch_size))


@jax.jit
def keys_of_examples(key: jax.Array, positions: jax.Array) -> jax.Array:
    """The keys `[B]` of examples at these positions of a set, int `[B]`, from one key."""
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)


def fold_in_each(keys: jax.Array, number: jax.Array | np.int32 | int) -> jax.Array:
    """Folds a number, or its own one of `[B]`, into every one of the typed keys `[B]`."""
    return jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(number, keys.shape))


def first_key(key: jax.Array) -> jax.Array:
    """One key for what the whole batch shares: the key itself, or the first of `[B]`."""
    return key if key.ndim == 0 else key[0]


def random_signs(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Plus or minus one with equal odds: the draws of `jax.random.rademacher`.

    JAX's own draws are others where 64-bit numbers are switched on.
    """
    positive = random_halves(key, shape)
    return jnp.where(positive, jnp.ones((), dtype), -jnp.ones((), dtype))


def random_halves(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bool of equal odds, whether 64-bit numbers are on or not."""
    return jax.random.bernoulli(key, jnp.float32(0.5), shape)
