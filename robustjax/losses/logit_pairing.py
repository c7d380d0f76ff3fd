"""Logit pairing and squeezing: squared distances between logits, and of logits to zero."""

import jax
import jax.numpy as jnp

from robustjax.arguments import arrays, require_choice
from robustjax.losses._logits import log_softmax
from robustjax.losses.classification import cross_entropy
from robustjax.shapes import Coefficient, Labels, Logits, PerExample

PAIRS = ("logits", "probabilities")


def adversarial_logit_pairing(
    clean_logits: Logits,
    adversarial_logits: Logits,
    labels: Labels,
    *,
    weight: Coefficient = 0.5,
    alpha: Coefficient = 0.0,
    pairs: str = "logits",
) -> PerExample:
    """ALP: the mixed cross-entropy plus the squared distance of clean and adversarial logits.

    L = α CE(z, y) + (1 − α) CE(z′, y) + λ ‖z − z′‖², the square summed over the classes. (LRM's
    analysis, eqs. 3 to 7, has a factor of ½ that eq. 9 has not.)

    Args:
      clean_logits: z, floating point [B, K].
      adversarial_logits: z′, floating point [B, K].
      labels: integers [B] in [0, K), or floating point [B, K], a distribution in each row.
      weight: λ >= 0, a scalar or [B]; may be traced. (The code of Kannan et al. (2018) takes the
        mean over the classes instead of the sum: there λ stands for λ / K here.)
      alpha: share of the clean cross-entropy, in [0, 1]; LRM's comparison has 0 (section 5.2).
      pairs: "logits", or "probabilities": ‖p − p′‖² of the softmax predictions in place of
        ‖z − z′‖², as MART (Wang et al., 2020) prints ALP (alpha 0) and CLP (alpha 1) in table 1.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, a label outside [0, K), or a weight, alpha or
        pairs that is not accepted. Under `jax.jit`, where values are unknown, such a label gives
        NaN.

    Example:
      >>> import jax
      >>> clean_logits, adversarial_logits = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 0.0]])
      >>> loss = adversarial_logit_pairing(clean_logits, adversarial_logits, jnp.array([0]))
      >>> print(jax.device_get(loss).round(3))  # log 2 + ½
      [1.193]

    Source: Adversarial Logit Pairing (Kannan et al., 2018), as in LRM (Summers and Dinneen, 2019),
      eqs. 2 and 9.
    """
    clean_logits, adversarial_logits = arrays.checked_logits(
        "adversarial_logit_pairing",
        clean_logits=clean_logits,
        adversarial_logits=adversarial_logits,
    )
    labels = arrays.checked_labels("adversarial_logit_pairing", clean_logits, labels)
    shape, dtype = clean_logits.shape[:-1], clean_logits.dtype
    weight = arrays.checked_coefficient(
        "adversarial_logit_pairing: weight", weight, shape=shape, dtype=dtype
    )
    alpha = arrays.checked_coefficient(
        "adversarial_logit_pairing: alpha", alpha, shape=shape, dtype=dtype, maximum=1
    )
    require_choice("adversarial_logit_pairing: pairs", pairs, PAIRS)
    distance = logit_pairing(clean_logits, adversarial_logits)
    if pairs == "probabilities":
        distance = logit_pairing(*map(_probabilities, (clean_logits, adversarial_logits)))
    clean = alpha * cross_entropy(clean_logits, labels)
    adversarial = (1 - alpha) * cross_entropy(adversarial_logits, labels)
    return clean + adversarial + weight * distance


def _probabilities(logits: jax.Array) -> jax.Array:
    return jnp.exp(log_softmax(logits))


def logit_pairing(logits: Logits, other_logits: Logits) -> PerExample:
    """The squared distance ‖z − z′‖² between two rows of logits, summed over the classes.

    Between a clean and an adversarial image it is adversarial logit pairing, between two clean
    images clean logit pairing.

    Args:
      logits: z, floating point [B, K].
      other_logits: z′, floating point [B, K].

    Returns:
      [B].

    Raises:
      ValueError: shapes that differ, or logits that are not floating point.

    Example:
      >>> print(logit_pairing(jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 4.0]])))  # 3² + 4²
      [25.]

    Source: Kannan et al. (2018), section 3; LRM (Summers and Dinneen, 2019), eq. 9.
    """
    logits, other_logits = arrays.checked_logits(
        "logit_pairing", logits=logits, other_logits=other_logits
    )
    # Classes that both rule out, with −∞, are as far apart as any equal logits.
    difference = jnp.where(logits == other_logits, 0, logits - other_logits)
    return jnp.sum(jnp.square(difference), -1)


def logit_squeezing(logits: Logits) -> PerExample:
    """The squared length ‖z‖² of the logits, summed over the classes.

    Args:
      logits: z, floating point [B, K].

    Returns:
      [B].

    Raises:
      ValueError: logits that are not floating point.

    Example:
      >>> print(logit_squeezing(jnp.array([[3.0, -4.0]])))
      [25.]

    Source: Kannan et al. (2018), section 3; LRM (Summers and Dinneen, 2019), eq. 11.
    """
    (logits,) = arrays.checked_logits("logit_squeezing", logits=logits)
    return jnp.sum(jnp.square(logits), -1)
