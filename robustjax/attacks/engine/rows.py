"""Small operations on batches whose rows are examples."""

from __future__ import annotations

import math
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)
"""Of JAX, or of NumPy on the host, where NumPy computes."""


def where_rows(rows: jax.Array, chosen: jax.Array, other: jax.Array) -> jax.Array:
    """Selects whole examples `[B, ...]` by a bool `[B]`: `chosen` where it holds, else `other`."""
    return jnp.where(rows.reshape(rows.shape + (1,) * (chosen.ndim - 1)), chosen, other)


def predicted(logits: Array) -> Array:
    """What a network predicts, everywhere in this package.

    Args:
      logits: `[B, K]`.

    Returns:
      int32 `[B]`: the class of the largest logit, the first of equal ones. -1, no class at all,
      where a logit is NaN or +inf, of which the largest says nothing, or where all are -inf. A
      class whose logit is -inf is ruled out, and does no harm otherwise.
    """
    xp = np if isinstance(logits, np.ndarray) else jnp
    says_something = xp.isfinite(xp.max(logits, axis=-1))
    return xp.where(says_something, xp.argmax(logits, axis=-1), -1).astype(np.int32)


def classified_as(logits: Array, classes: Array) -> Array:
    """Whether a class is `predicted` from logits `[B, K]`, and is the given one, int `[B]`.

    Returns:
      bool `[B]`; False where no class is predicted, whatever is given.
    """
    found = predicted(logits)
    return (found == classes) & (found >= 0)


def misclassified(logits: Array, labels: Array) -> Array:
    """Whether the class that is `predicted` from logits `[B, K]` is not the label.

    Args:
      logits: `[B, K]`.
      labels: hard `[B]`, or soft `[B, K]`, of which the largest counts.

    Returns:
      bool `[B]`; True where no class is predicted.
    """
    if labels.ndim == 2:
        labels = labels.argmax(axis=-1)
    return ~classified_as(logits, labels)


def flat_rows(images: jax.Array) -> jax.Array:
    """`[B, ...]` as `[B, D]`."""
    return images.reshape(len(images), math.prod(images.shape[1:]))
