"""The NAP loss: boosted cross-entropy less the natural cross-entropy, by how much it is easier."""

import jax
import jax.numpy as jnp

from robustjax.arguments import arrays, require_truth
from robustjax.losses._logits import class_mask, log_odds
from robustjax.losses.classification import boosted_cross_entropy, cross_entropy
from robustjax.shapes import Coefficient, HardLabels, Logits, PerExample


def nap(
    clean_logits: Logits,
    adversarial_logits: Logits,
    labels: HardLabels,
    *,
    beta: Coefficient = 6.0,
    boosted: bool = True,
    margin: bool = True,
) -> PerExample:
    """NAP: BCE on the adversarial image, and a penalty for being more sure of the clean one.

    L = BCE(p(x̂), y) − β · sg[p_y(x) − p_y(x̂)]₊ · CE(p(x), y). The margin is not differentiated
    (sg), so the penalty acts through the natural cross-entropy alone. The paper's eq. 4 prints the
    natural cross-entropy's place wrongly; the evident meaning, which is that of its eqs. 11 to 13
    and of the authors' code, is taken. That code adds 1e-3 inside the logarithm of BCE's margin
    term; here the exact formula is computed from the logits.

    Args:
      clean_logits: floating point [B, K].
      adversarial_logits: floating point [B, K].
      labels: integers [B] in [0, K).
      beta: weight of the penalty, the paper's λ; a scalar or [B], >= 0; may be traced. Section 4.3
        takes 6 with the margin and 0.3 without it.
      boosted: False takes CE(p(x̂), y) for the first term (eq. 11; with margin False eq. 13).
      margin: False takes 1 for the margin (eq. 12).

    Returns:
      [B], the loss per example; it may be negative.

    Raises:
      ValueError: shapes or types that do not fit, soft labels, a label outside [0, K), or a
        negative beta. Under `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> clean_logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> adversarial_logits = jnp.log(jnp.array([[0.25, 0.75]]))
      >>> loss = nap(clean_logits, adversarial_logits, jnp.array([0]), beta=4.0)
      >>> print(jax.device_get(loss).round(3))  # 2 log 4 − 4 · ¼ · log 2
      [2.079]

    Source: NAP (Chandna and Kutlesa, 2021), eqs. 4 and 11 to 13.
    """
    clean_logits, adversarial_logits = arrays.checked_logits(
        "nap", clean_logits=clean_logits, adversarial_logits=adversarial_logits
    )
    hint = "; its margin compares the probabilities of one true class"
    labels = arrays.checked_hard_labels("nap", clean_logits, labels, hint=hint)
    beta = arrays.checked_coefficient(
        "nap: beta", beta, shape=clean_logits.shape[:-1], dtype=clean_logits.dtype
    )
    require_truth("nap: boosted", boosted)
    require_truth("nap: margin", margin)
    penalty = cross_entropy(clean_logits, labels)
    if margin:
        true_class = class_mask(labels, clean_logits.shape[-1])
        overconfidence = _overconfidence(
            log_odds(clean_logits, true_class), log_odds(adversarial_logits, true_class)
        )
        penalty = jax.lax.stop_gradient(overconfidence) * penalty
    loss = boosted_cross_entropy if boosted else cross_entropy
    return loss(adversarial_logits, labels) - beta * penalty


def _overconfidence(clean_log_odds: jax.Array, adversarial_log_odds: jax.Array) -> jax.Array:
    """[p_y(x) − p_y(x̂)]₊ from the log-odds of both, [B].

    σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)): unlike the difference of two probabilities it keeps
    its relative precision where both are near one or near each other.
    """
    alike = adversarial_log_odds == clean_log_odds  # Both +∞, it may be.
    behind = jnp.where(alike, 0, jnp.minimum(adversarial_log_odds - clean_log_odds, 0))
    both = jax.nn.sigmoid(clean_log_odds) * jax.nn.sigmoid(-adversarial_log_odds)
    return both * -jnp.expm1(behind)
