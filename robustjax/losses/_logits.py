"""Log-probabilities from logits, exact at every scale.

Everything is built from differences of logits, never from probabilities: nothing overflows, no
logarithm of zero arises, and what is tiny keeps its relative precision, in the gradient too. (Of a
saturated prediction the gradient p − 1 at the true class would otherwise round to zero while those
at the other classes do not, and an attack would follow a wrong direction.)
"""

import jax
import jax.numpy as jnp


def class_mask(classes: jax.Array, num_classes: int) -> jax.Array:
    """Marks one class per example: int [B] -> bool [B, K]; no mark for a class outside [0, K)."""
    return classes[..., None] == jnp.arange(num_classes)


def at_class(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The value at the marked class: [B, K] -> [B]; NaN where no class is marked."""
    # A masked sum fuses with its surroundings, where a gather and its scatter gradient do not.
    return jnp.where(mask.any(-1), jnp.sum(jnp.where(mask, values, 0), -1), jnp.nan)


def except_class(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The values [B, K] with −∞ at the marked class, for maxima over the other classes."""
    return jnp.where(mask, -jnp.inf, values)


def log_odds(logits: jax.Array, mask: jax.Array) -> jax.Array:
    """log(p_k / (1 − p_k)) of the marked class k: z_k − logsumexp over j ≠ k of z_j.

    So −log p_k = softplus(−log_odds) and −log(1 − p_k) = softplus(log_odds).

    Args:
      logits: [B, K], K >= 2, finite or, of classes that are ruled out, −∞.
      mask: bool [B, K] with one class marked per example.

    Returns:
      [B]; +∞, with no gradient, where all other classes are ruled out.
    """
    others = except_class(logits, mask)
    largest = jax.lax.stop_gradient(jnp.max(others, -1))
    alone = jnp.isneginf(largest)
    # Kept from the branch that is not taken, whose gradient would be NaN.
    largest = jnp.where(alone, 0, largest)
    total = jnp.where(alone, 1, jnp.sum(jnp.exp(others - largest[..., None]), -1))
    return jnp.where(alone, jnp.inf, (at_class(logits, mask) - largest) - jnp.log(total))


def expectation(distribution: jax.Array, log_probabilities: jax.Array) -> jax.Array:
    """Σ_k t_k log p_k, [B, K] and [B, K] -> [B]; a class with t_k = p_k = 0 adds nothing."""
    impossible = jnp.isneginf(log_probabilities) & (distribution == 0)
    return jnp.sum(distribution * jnp.where(impossible, 0, log_probabilities), -1)


def log_softmax(logits: jax.Array) -> jax.Array:
    """Log-probability of every class, [B, K], also where float32 cannot tell p_k from 1."""
    top = class_mask(jnp.argmax(logits, -1), logits.shape[-1])
    # The top class itself is cut out, lest ∂(z_k − z_k) swamp the tiny part of its gradient.
    behind_top = jnp.where(top, 0, logits - at_class(logits, top)[..., None])
    return behind_top - jax.nn.softplus(-log_odds(logits, top))[..., None]
