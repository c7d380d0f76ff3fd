"""The LRM loss: logit pairing decoupled into pairing by cross-entropy and logit squeezing."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from robustjax.losses import _checks as checks
from robustjax.losses._logits import log_softmax
from robustjax.losses.classification import cross_entropy
from robustjax.losses.logit_pairing import logit_squeezing

READINGS = ("A", "B")


def lrm(
    clean_logits: ArrayLike,
    adversarial_logits: ArrayLike,
    labels: ArrayLike,
    *,
    pairing_ratio: float | None = 0.125,
    squeezing: ArrayLike = 1e-3,
    reading: str = "A",
    alpha: ArrayLike = 0.0,
    axis_name: str | None = None,
) -> jax.Array:
    """LRM: adversarial cross-entropy, decoupled logit pairing, and logit squeezing.

    With z the clean and z′ the adversarial logits, L = α CE(z, y) + (1 − α) CE(z′, y), the pairing
    term h = −Σ_k p_k(x) log p_k(x̂), means over the batch with a bar, and r the pairing ratio:

    * reading A: L + (1/r) · sg[L̄ / h̄] · h + β (‖z‖² + ‖z′‖²): the loss is to the weighted pairing
      as r to 1;
    * reading B: r L + (1 − r) · sg[L̄ / h̄] · h + β (‖z‖² + ‖z′‖²): a convex mixture.

    The ratio of the batch means is not differentiated (sg), so the pairing term's value follows the
    loss while its gradient is that of h, scaled. The paper gives r as "the ratio between the
    adversarial training loss and the pairing loss", of which both are readings; that a smaller r
    pairs more, as it says, holds for both. The direction of h and whether its first argument is
    differentiated are left open: here the clean prediction is the reference, and both are.

    This loss couples its rows: each value depends on the means over the batch.

    Args:
      clean_logits: z, floating point [B, K].
      adversarial_logits: z′, floating point [B, K].
      labels: integers [B] in [0, K), or floating point [B, K], a distribution in each row (the
        paper smooths and mixes labels).
      pairing_ratio: r > 0, in reading B at most 1; None: no pairing.
      squeezing: β >= 0, a scalar or [B]; may be traced.
      reading: "A" or "B".
      alpha: share of the clean cross-entropy, in [0, 1] (eq. 1); the paper trains with 0.
      axis_name: name of a mapped axis over which the batch is spread too.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, a label outside [0, K), or a coefficient or
        reading that is not accepted. Under `jax.jit`, where values are unknown, such a label gives
        NaN.

    Source: LRM (Summers and Dinneen, 2019), eqs. 1 and 11 and section 4.1.
    """
    clean_logits, adversarial_logits = checks.checked_logits(
        "lrm", clean_logits=clean_logits, adversarial_logits=adversarial_logits
    )
    labels = checks.checked_labels("lrm", clean_logits, labels)
    shape, dtype = clean_logits.shape[:-1], clean_logits.dtype
    squeezing = checks.checked_coefficient("lrm", "squeezing", squeezing, shape=shape, dtype=dtype)
    alpha = checks.checked_coefficient("lrm", "alpha", alpha, shape=shape, dtype=dtype, maximum=1)
    if reading not in READINGS:
        raise ValueError(f"lrm: reading must be one of {READINGS}, got {reading!r}")
    largest = 1.0 if reading == "B" else float("inf")
    if pairing_ratio is not None and not 0 < pairing_ratio <= largest:
        accepted = "None or " + ("in (0, 1]" if reading == "B" else "more than 0")
        raise ValueError(
            f"lrm: pairing_ratio must be {accepted} in reading {reading}, got {pairing_ratio!r}"
        )
    loss = (1 - alpha) * cross_entropy(adversarial_logits, labels)
    loss += alpha * cross_entropy(clean_logits, labels)
    squeezed = logit_squeezing(clean_logits) + logit_squeezing(adversarial_logits)
    if pairing_ratio is None:
        return loss + squeezing * squeezed
    pairing = _cross_entropy_between(clean_logits, adversarial_logits)
    scaled_pairing = _ratio_of_means(loss, pairing, axis_name) * pairing
    if reading == "A":
        paired = loss + scaled_pairing / pairing_ratio
    else:
        paired = pairing_ratio * loss + (1 - pairing_ratio) * scaled_pairing
    return paired + squeezing * squeezed


def _cross_entropy_between(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
    """−Σ_k p_k log q_k of two softmax predictions, [B]."""
    return -jnp.sum(jnp.exp(log_softmax(p_logits)) * log_softmax(q_logits), -1)


def _ratio_of_means(
    numerator: jax.Array, denominator: jax.Array, axis_name: str | None
) -> jax.Array:
    """The ratio of two batch means, not differentiated; 0 where the second is 0."""
    means = jax.lax.stop_gradient((jnp.mean(numerator), jnp.mean(denominator)))
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    above, below = means
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)
