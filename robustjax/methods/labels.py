"""Examples without a label: what a semi-supervised method puts in its place."""

import jax
import jax.numpy as jnp

from robustjax import losses


def is_labelled(labels: jax.Array) -> jax.Array:
    """Bool [B]: which examples have a label; all of them where labels are distributions [B, K]."""
    return jnp.ones(len(labels), bool) if labels.ndim == 2 else labels >= 0


def or_predicted(labels: jax.Array, logits: jax.Array) -> jax.Array:
    """The labels [B], or [B, K]; where one is absent, the class that the logits [B, K] predict."""
    if labels.ndim == 2:
        return labels
    return jnp.where(labels >= 0, labels, jnp.argmax(logits, -1).astype(labels.dtype))


def labelled_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy [B], exactly 0 with a zero gradient where the label is absent."""
    if labels.ndim == 2:
        return losses.cross_entropy(logits, labels)
    present = is_labelled(labels)
    return jnp.where(present, losses.cross_entropy(logits, jnp.where(present, labels, 0)), 0.0)
