"""Small operations on batches whose rows are examples."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def where_rows(rows: jax.Array, chosen: jax.Array, other: jax.Array) -> jax.Array:
    """Selects whole examples `[B, ...]` by a bool `[B]`: `chosen` where it holds, else `other`."""
    return jnp.where(rows.reshape(rows.shape + (1,) * (chosen.ndim - 1)), chosen, other)


def misclassified(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the argmax of logits `[B, K]` differs from the label, hard `[B]` or soft `[B, K]`."""
    if labels.ndim == 2:
        labels = jnp.argmax(labels, axis=-1)
    return jnp.argmax(logits, axis=-1) != labels


def predicted(logits: np.ndarray) -> np.ndarray:
    """The classes `[B]` of logits `[B, K]` on the host; -1 where a logit is not finite."""
    return np.where(np.isfinite(logits).all(axis=-1), np.argmax(logits, axis=-1), -1)


def flat_rows(images: jax.Array) -> jax.Array:
    """`[B, ...]` as `[B, D]`."""
    return images.reshape(len(images), math.prod(images.shape[1:]))
