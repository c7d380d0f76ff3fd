"""Cross-entropy and what adversarial training builds on it: BCE, KL divergence, label smoothing."""

import numbers

import jax
import jax.numpy as jnp

from robustjax.arguments import LARGEST_COUNT, arrays, refusal, shown
from robustjax.losses._logits import (
    at_class,
    class_mask,
    except_class,
    expectation,
    log_odds,
    log_softmax,
)
from robustjax.shapes import Coefficient, Distributions, HardLabels, Labels, Logits, PerExample


def cross_entropy(logits: Logits, labels: Labels) -> PerExample:
    """Cross-entropy of the softmax prediction with hard or soft labels.

    CE(z, y) = −log p_y for a hard label y, −Σ_k t_k log p_k for a soft label t, with
    p = softmax(z).

    Args:
      logits: floating point [B, K].
      labels: integers [B] in [0, K), or floating point [B, K], a distribution in each row.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, or a label outside [0, K). Under `jax.jit`,
        where values are unknown, such a label gives NaN.

    Example:
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(jax.device_get(cross_entropy(logits, jnp.array([0, 1]))).round(3))
      [0.24  1.099]
      >>> soft = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
      >>> print(jax.device_get(cross_entropy(logits, soft)).round(3))
      [0.24  1.099]

    Source: Deep Learning (Goodfellow et al., 2016), section 6.2.2.3.
    """
    (logits,) = arrays.checked_logits("cross_entropy", logits=logits)
    labels = arrays.checked_labels("cross_entropy", logits, labels)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        return -expectation(labels, log_softmax(logits))
    return jax.nn.softplus(-log_odds(logits, class_mask(labels, logits.shape[-1])))


def boosted_cross_entropy(logits: Logits, labels: HardLabels) -> PerExample:
    """Boosted cross-entropy (BCE): cross-entropy plus a margin term on the best wrong class.

    BCE(z, y) = −log p_y − log(1 − max over k ≠ y of p_k), with p = softmax(z). Computed exactly:
    the small constants that the published code adds inside the logarithms are not needed.

    Args:
      logits: floating point [B, K].
      labels: integers [B] in [0, K). Soft labels are refused: the margin term needs one true class.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: soft labels, other shapes or types that do not fit, or a label outside [0, K).
        Under `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> logits = jnp.log(jnp.array([[0.5, 0.3, 0.2]]))
      >>> loss = boosted_cross_entropy(logits, jnp.array([0]))
      >>> print(jax.device_get(loss).round(3))  # −log 0.5 − log 0.7
      [1.05]

    Source: MART (Wang et al., 2020), eq. 8.
    """
    (logits,) = arrays.checked_logits("boosted_cross_entropy", logits=logits)
    hint = "; its margin term compares the true class with the best wrong one"
    labels = arrays.checked_hard_labels("boosted_cross_entropy", logits, labels, hint=hint)
    num_classes = logits.shape[-1]
    true_class = class_mask(labels, num_classes)
    wrong = except_class(logits, true_class)
    best_wrong = class_mask(jnp.argmax(wrong, -1), num_classes)
    # Where all wrong classes are ruled out, the best of them has no probability to lose.
    alone = jnp.isneginf(jnp.max(wrong, -1))
    odds_of_wrong = jnp.where(alone, -jnp.inf, log_odds(logits, best_wrong))
    return jax.nn.softplus(-log_odds(logits, true_class)) + jax.nn.softplus(odds_of_wrong)


def kl_divergence(p_logits: Logits, q_logits: Logits) -> PerExample:
    """Kullback-Leibler divergence between two softmax predictions.

    KL(p ‖ q) = Σ_k p_k (log p_k − log q_k), with p = softmax(p_logits), q = softmax(q_logits).
    The gradient flows into both arguments: q − p with respect to `q_logits`, and
    p_k (log p_k − log q_k − KL) with respect to `p_logits`. Identical logits give exactly zero, in
    the value and in both gradients. A class whose p-logit is −∞ adds nothing to the sum.

    Args:
      p_logits: floating point [B, K]; in TRADES the clean prediction. At least two of each row
        finite, the others finite or −∞.
      q_logits: likewise; in TRADES the adversarial prediction.

    Returns:
      [B], the divergence per example, >= 0 up to rounding.

    Raises:
      ValueError: shapes that differ, or logits that are not floating point.

    Example:
      >>> p_logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> q_logits = jnp.log(jnp.array([[0.25, 0.75]]))
      >>> divergence = kl_divergence(p_logits, q_logits)
      >>> print(jax.device_get(divergence).round(3))  # ½ log 2 + ½ log ⅔
      [0.144]

    Source: Kullback and Leibler (1951), the mean information for discrimination.
    """
    p_logits, q_logits = arrays.checked_logits(
        "kl_divergence", p_logits=p_logits, q_logits=q_logits
    )
    return _kl_divergence(p_logits, q_logits)


@jax.custom_jvp
def _kl_divergence(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    # Each p log(p/q) may have either sign, and between near-equal distributions they cancel. Adding
    # q − p, whose sum is zero, makes every term non-negative.
    log_ratio = _where_possible(p_logits, log_p - log_q)
    return jnp.sum(jnp.exp(log_p) * log_ratio + _difference(log_p, log_q), -1)


# Differentiating the value term by term would leave rounding errors as large as p itself in q − p
# and as large as KL in log p − log q − KL; the closed forms have neither.
@_kl_divergence.defjvp
def _kl_divergence_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    p_logits, q_logits = primals
    p_tangent, q_tangent = tangents
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    p = jnp.exp(log_p)
    top = class_mask(jnp.argmax(p_logits, -1), p_logits.shape[-1])
    # log(p_k / q_k) up to a constant, which cancels against that in the mean.
    ratio = (p_logits - at_class(p_logits, top)[..., None]) - (
        q_logits - at_class(q_logits, top)[..., None]
    )
    ratio = _where_possible(p_logits, ratio)
    p_gradient = p * (ratio - jnp.sum(p * ratio, -1, keepdims=True))
    q_gradient = _difference(log_p, log_q)
    tangent = jnp.sum(p_gradient * p_tangent + q_gradient * q_tangent, -1)
    return _kl_divergence(p_logits, q_logits), tangent


def _where_possible(p_logits: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """Sets log(p/q) to 0 where p is exactly 0, as p log(p/q) tends to 0 there."""
    return jnp.where(jnp.isneginf(p_logits), 0, log_ratio)


def _difference(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Gives q − p to relative precision, also where both round to 1."""
    log_ratio = log_q - log_p
    # The clip keeps the branch that is not taken from overflowing.
    near = jnp.exp(log_p) * jnp.expm1(jnp.clip(log_ratio, -1, 1))
    return jnp.where(jnp.abs(log_ratio) < 1, near, jnp.exp(log_q) - jnp.exp(log_p))


def smooth_labels(labels: HardLabels, num_classes: int, strength: Coefficient) -> Distributions:
    """Label smoothing: moves a share of each hard label evenly onto the other classes.

    t_y = 1 − s and t_k = s / (K − 1) for k ≠ y. (The other common convention mixes with the uniform
    distribution and gives every class, the true one included, a share s / K.)

    Args:
      labels: integers [B] in [0, K).
      num_classes: K, at least 2.
      strength: s in [0, 1], a scalar or [B]; may be traced. Above 1 − 1/K the true class gets less
        than any other.

    Returns:
      [B, K], a distribution in each row, float32 (float64 if `strength` is a float64 array).

    Raises:
      ValueError: labels that are not integers or lie outside [0, K), fewer than 2 classes, or a
        strength outside [0, 1]. Under `jax.jit`, where values are unknown, a label outside [0, K)
        gives NaN.

    Example:
      >>> print(smooth_labels(jnp.array([0, 2]), 3, 0.1))
      [[0.9  0.05 0.05]
       [0.05 0.05 0.9 ]]

    Source: LRM (Summers and Dinneen, 2019), eq. 8.
    """
    whole = isinstance(num_classes, numbers.Integral) and not isinstance(num_classes, bool)
    if not whole or not 2 <= num_classes <= LARGEST_COUNT:
        raise refusal("smooth_labels: num_classes", shown(num_classes), "whole numbers, 2 or more")
    array = arrays.as_array("smooth_labels: labels", labels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise refusal("smooth_labels: labels", arrays.kind(array), "hard labels, integers [B]")
    arrays.check_class_range("smooth_labels: labels", labels, num_classes)
    strength = arrays.checked_coefficient(
        "smooth_labels: strength",
        strength,
        shape=array.shape,
        dtype=arrays.at_least_float32(getattr(strength, "dtype", jnp.float32)),
        maximum=1,
    )[..., None]
    mask = class_mask(array, num_classes)
    smoothed = jnp.where(mask, 1 - strength, strength / (num_classes - 1))
    return jnp.where(mask.any(-1, keepdims=True), smoothed, jnp.nan)
