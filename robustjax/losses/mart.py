"""The MART loss: boosted cross-entropy plus a divergence that weighs the misclassified more."""

import jax
import jax.numpy as jnp

from robustjax.arguments import arrays, require_choice, require_truth
from robustjax.losses._logits import class_mask, log_odds
from robustjax.losses.classification import boosted_cross_entropy, cross_entropy, kl_divergence
from robustjax.shapes import Coefficient, HardLabels, Logits, PerExample

CLASSIFIERS = ("bce", "ce", "natural_bce")


def mart(
    clean_logits: Logits,
    adversarial_logits: Logits,
    labels: HardLabels,
    *,
    beta: Coefficient = 6.0,
    classifier: str = "bce",
    divergence: bool = True,
    weighted: bool = True,
) -> PerExample:
    """MART: BCE on the adversarial image plus β times the KL, weighted by the clean error.

    L = BCE(p(x̂), y) + β · KL(p(x) ‖ p(x̂)) · (1 − p_y(x)), x the clean and x̂ the adversarial image.
    Every factor takes part in the gradient, the weight 1 − p_y(x) too, as in the authors' code.
    That code adds constants (1.0001 and 1e-12 inside logarithms, 1.0000001 in the weight) to
    survive rounding; here the exact formula is computed from the logits.

    The other arguments are the ablations of the paper's figure 2, (a) removing and (b) replacing
    its components.

    Args:
      clean_logits: floating point [B, K].
      adversarial_logits: floating point [B, K].
      labels: integers [B] in [0, K).
      beta: weight of the regulariser, the paper's λ; a scalar or [B], >= 0; may be traced.
      classifier: "bce", BCE(p(x̂), y); "ce", CE(p(x̂), y) (figure 2b); or "natural_bce",
        BCE(p(x), y) (figure 2b).
      divergence: False removes the KL: the regulariser is 1 − p_y(x) (figure 2a).
      weighted: False removes the weight: the regulariser is the KL (figure 2a). With `divergence`
        False too there is no regulariser.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, soft labels, a label outside [0, K), a negative
        beta, or another classifier. Under `jax.jit`, where values are unknown, such a label gives
        NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> clean_logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> adversarial_logits = jnp.log(jnp.array([[0.25, 0.75]]))
      >>> loss = mart(clean_logits, adversarial_logits, jnp.array([0]), beta=6.0)
      >>> print(jax.device_get(loss).round(3))  # 2 log 4 + 6 · 0.144 · ½
      [3.204]

    Source: MART (Wang et al., 2020), eqs. 8, 9 and 11; figure 2.
    """
    clean_logits, adversarial_logits = arrays.checked_logits(
        "mart", clean_logits=clean_logits, adversarial_logits=adversarial_logits
    )
    hint = "; its weight is the probability of one true class"
    labels = arrays.checked_hard_labels("mart", clean_logits, labels, hint=hint)
    beta = arrays.checked_coefficient(
        "mart: beta", beta, shape=clean_logits.shape[:-1], dtype=clean_logits.dtype
    )
    require_choice("mart: classifier", classifier, CLASSIFIERS)
    require_truth("mart: divergence", divergence)
    require_truth("mart: weighted", weighted)
    classified = clean_logits if classifier == "natural_bce" else adversarial_logits
    loss = cross_entropy if classifier == "ce" else boosted_cross_entropy
    return loss(classified, labels) + beta * _regulariser(
        clean_logits, adversarial_logits, labels, divergence, weighted
    )


def _regulariser(
    clean_logits: jax.Array,
    adversarial_logits: jax.Array,
    labels: jax.Array,
    divergence: bool,
    weighted: bool,
) -> jax.Array:
    if not divergence and not weighted:
        return jnp.zeros_like(clean_logits[..., 0])
    if not weighted:
        return kl_divergence(clean_logits, adversarial_logits)
    true_class = class_mask(labels, clean_logits.shape[-1])
    weight = jax.nn.sigmoid(-log_odds(clean_logits, true_class))
    return kl_divergence(clean_logits, adversarial_logits) * weight if divergence else weight
