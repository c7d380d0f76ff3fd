"""The soft logit margin of MMA training, which bounds the margin that it maximises."""

from robustjax.arguments import arrays
from robustjax.losses._logits import class_mask, log_odds
from robustjax.shapes import HardLabels, Logits, PerExample


def soft_logit_margin(logits: Logits, labels: HardLabels) -> PerExample:
    """SLM = logsumexp over k ≠ y of z_k − z_y; positive where the example is misclassified.

    It lies above the logit margin max_{k≠y} z_k − z_y by at most log(K − 1), so where it is
    negative the example is classified correctly.

    Args:
      logits: floating point [B, K].
      labels: integers [B] in [0, K).

    Returns:
      [B].

    Raises:
      ValueError: shapes or types that do not fit, soft labels, or a label outside [0, K). Under
        `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> margin = soft_logit_margin(jnp.array([[2.0, 0.0, 0.0]]), jnp.array([0]))
      >>> print(jax.device_get(margin).round(3))  # log 2 − 2
      [-1.307]

    Source: MMA Training (Ding et al., 2020), the soft logit margin loss.
    """
    (logits,) = arrays.checked_logits("soft_logit_margin", logits=logits)
    hint = "; a margin needs one true class"
    labels = arrays.checked_hard_labels("soft_logit_margin", logits, labels, hint=hint)
    return -log_odds(logits, class_mask(labels, logits.shape[-1]))
