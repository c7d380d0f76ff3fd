"""Losses on differences of logits, for attacks: the Carlini-Wagner margin and the DLR losses."""

import jax
import jax.numpy as jnp

from robustjax.arguments import arrays
from robustjax.losses._logits import at_class, class_mask, except_class
from robustjax.shapes import HardLabels, Logits, PerExample

# As in the authors' code; keeps DLR defined where the logits in its denominator are all equal.
_DLR_OFFSET = 1e-12


def cw_margin(logits: Logits, labels: HardLabels) -> PerExample:
    """How far the best wrong class is ahead of the true one, as Carlini and Wagner measure it.

    CW(z, y) = max over k ≠ y of z_k − z_y: positive exactly for misclassified examples. Where wrong
    classes tie for the maximum, they share its gradient evenly.

    Args:
      logits: floating point [B, K].
      labels: integers [B] in [0, K).

    Returns:
      [B], the margin per example.

    Raises:
      ValueError: soft labels, other shapes or types that do not fit, or a label outside [0, K).
        Under `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> print(cw_margin(jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), jnp.array([0, 1])))
      [-1.  2.]

    Source: Carlini and Wagner (2017), f6, without clipping at zero and with the true class for t.
    """
    (logits,) = arrays.checked_logits("cw_margin", logits=logits)
    labels = arrays.checked_hard_labels("cw_margin", logits, labels)
    mask = class_mask(labels, logits.shape[-1])
    return jnp.max(except_class(logits, mask), -1) - at_class(logits, mask)


def dlr(logits: Logits, labels: HardLabels) -> PerExample:
    """Difference of logits ratio: a margin that neither shifting nor scaling the logits changes.

    DLR(z, y) = −(z_y − max over k ≠ y of z_k) / (z_(1) − z_(3) + 10⁻¹²), with z_(i) the i-th
    largest logit: in [−1, 0] for correctly classified examples, positive for misclassified ones.

    Args:
      logits: floating point [B, K], K >= 3.
      labels: integers [B] in [0, K).

    Returns:
      [B], the loss per example. Where fewer than 3 logits are above −∞, the difference alone.

    Raises:
      ValueError: fewer than 3 classes, soft labels, other shapes or types that do not fit, or a
        label outside [0, K). Under `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> print(dlr(jnp.array([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]), jnp.array([0, 1])))
      [-0.5  1. ]

    Source: AutoAttack (Croce and Hein, 2020), the DLR loss; 10⁻¹² is from the authors' code.
    """
    (logits,) = arrays.checked_logits("dlr", minimum_classes=3, logits=logits)
    labels = arrays.checked_hard_labels("dlr", logits, labels)
    mask = class_mask(labels, logits.shape[-1])
    lead = at_class(logits, mask) - jnp.max(except_class(logits, mask), -1)
    first, _, third = _largest(logits, 3)
    return -lead / _scale(first - third)


def targeted_dlr(logits: Logits, labels: HardLabels, targets: HardLabels) -> PerExample:
    """Difference of logits ratio towards a target class.

    DLR(z, y, t) = −(z_y − z_t) / (z_(1) − ½(z_(3) + z_(4)) + 10⁻¹²), with z_(i) the i-th largest
    logit: grows as the target class overtakes the true one.

    Args:
      logits: floating point [B, K], K >= 4.
      labels: integers [B] in [0, K).
      targets: integers [B] in [0, K), the class to reach.

    Returns:
      [B], the loss per example. Where the 4th logit is −∞, the 3rd takes its place; where that is
      too, the difference alone.

    Raises:
      ValueError: fewer than 4 classes, soft labels, other shapes or types that do not fit, or a
        label or target outside [0, K). Under `jax.jit`, where values are unknown, such a class
        gives NaN.

    Example:
      >>> logits = jnp.array([[4.0, 1.0, 2.0, 3.0]])
      >>> print(targeted_dlr(logits, jnp.array([0]), jnp.array([2])))  # −(4 − 2) / (4 − 1.5)
      [-0.8]

    Source: AutoAttack (Croce and Hein, 2020), the targeted DLR loss; 10⁻¹² is from the authors'
    code.
    """
    (logits,) = arrays.checked_logits("targeted_dlr", minimum_classes=4, logits=logits)
    labels = arrays.checked_hard_labels("targeted_dlr", logits, labels)
    targets = arrays.checked_hard_labels("targeted_dlr", logits, targets, name="targets")
    num_classes = logits.shape[-1]
    true_logit = at_class(logits, class_mask(labels, num_classes))
    target_logit = at_class(logits, class_mask(targets, num_classes))
    first, _, third, fourth = _largest(logits, 4)
    fourth = jnp.where(jnp.isneginf(fourth), third, fourth)
    # Differences first: the mean of two large logits would round away what they differ by.
    spread = ((first - third) + (first - fourth)) / 2
    return -(true_logit - target_logit) / _scale(spread)


def _scale(spread: jax.Array) -> jax.Array:
    """What a difference of logits is measured in; 1 where too few classes are left for a spread."""
    return jnp.where(jnp.isposinf(spread), 1, spread + _DLR_OFFSET)


def _largest(logits: jax.Array, count: int) -> list[jax.Array]:
    """The `count` largest logits of each example in descending order, each [B].

    Cutting out one maximum after the other is several times faster than `jax.lax.top_k` with its
    gradient, and an attack does it at every step.
    """
    values = []
    for _ in range(count):
        top = class_mask(jnp.argmax(logits, -1), logits.shape[-1])
        values.append(at_class(logits, top))
        logits = except_class(logits, top)
    return values
