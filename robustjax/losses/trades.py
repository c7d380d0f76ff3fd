"""The TRADES loss: natural cross-entropy plus a divergence between two predictions."""

from robustjax.arguments import arrays
from robustjax.losses.classification import cross_entropy, kl_divergence
from robustjax.shapes import Coefficient, Labels, Logits, PerExample


def trades(
    clean_logits: Logits,
    adversarial_logits: Logits,
    labels: Labels,
    *,
    beta: Coefficient = 6.0,
) -> PerExample:
    """TRADES: cross-entropy on the clean image plus β times the KL to the adversarial prediction.

    L = CE(z, y) + β · KL(softmax(z) ‖ softmax(z′)), z the clean and z′ the adversarial logits. The
    gradient flows through both arguments of the KL.

    Args:
      clean_logits: floating point [B, K].
      adversarial_logits: floating point [B, K].
      labels: integers [B] in [0, K), or floating point [B, K], a distribution in each row; only the
        cross-entropy uses them.
      beta: weight of the KL, the paper's 1/λ; a scalar or [B], >= 0; may be traced.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, a label outside [0, K), or a negative beta.
        Under `jax.jit`, where values are unknown, such a label gives NaN.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> clean_logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> adversarial_logits = jnp.log(jnp.array([[0.25, 0.75]]))
      >>> loss = trades(clean_logits, adversarial_logits, jnp.array([0]), beta=6.0)
      >>> print(jax.device_get(loss).round(3))
      [1.556]

    Source: TRADES (Zhang et al., 2019), eq. 5.
    """
    clean_logits, adversarial_logits = arrays.checked_logits(
        "trades", clean_logits=clean_logits, adversarial_logits=adversarial_logits
    )
    labels = arrays.checked_labels("trades", clean_logits, labels)
    beta = arrays.checked_coefficient(
        "trades: beta", beta, shape=clean_logits.shape[:-1], dtype=clean_logits.dtype
    )
    divergence = kl_divergence(clean_logits, adversarial_logits)
    return cross_entropy(clean_logits, labels) + beta * divergence
