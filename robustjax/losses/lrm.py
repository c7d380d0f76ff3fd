"""The LRM loss: logit pairing decoupled into pairing by cross-entropy and logit squeezing."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from robustjax.arguments import arrays, refusal, require_choice, require_truth, shown
from robustjax.losses._logits import at_class, class_mask, expectation, log_softmax
from robustjax.losses.classification import cross_entropy, kl_divergence
from robustjax.losses.logit_pairing import logit_squeezing
from robustjax.shapes import Coefficient, Labels, Logits, PerExample

READINGS = ("A", "B")
DIRECTIONS = ("clean", "adversarial")


def lrm(
    clean_logits: Logits,
    adversarial_logits: Logits,
    labels: Labels,
    *,
    pairing_ratio: ArrayLike | None = 0.125,
    squeezing: Coefficient = 1e-3,
    reading: str = "A",
    alpha: Coefficient = 0.0,
    axis_name: str | None = None,
    direction: str = "clean",
    detached_reference: bool = True,
) -> PerExample:
    """LRM: adversarial cross-entropy, decoupled logit pairing, and logit squeezing.

    With z the clean and z′ the adversarial logits, L = α CE(z, y) + (1 − α) CE(z′, y), the pairing
    term h = −Σ_k p_k(x) log p_k(x̂), means over the batch with a bar, and r the pairing ratio:

    * reading A: L + (1/r) · sg[L̄ / h̄] · h + β (‖z‖² + ‖z′‖²): the loss is to the weighted pairing
      as r to 1;
    * reading B: r L + (1 − r) · sg[L̄ / h̄] · h + β (‖z‖² + ‖z′‖²): a convex mixture.

    The ratio of the batch means is not differentiated (sg), so the pairing term's value follows the
    loss while its gradient is that of h, scaled. The paper gives r as "the ratio between the
    adversarial training loss and the pairing loss" (section 5.2), of which both are readings; that
    a smaller r pairs more, as it says there, holds for both. It would not hold for r as the
    "constant fraction of the adversarial loss" of section 4.1: that is reading A with 1/r. Reading
    A is the default because it trained more often where both were tried: on CIFAR-10 with a small
    network for three seeds of three, B for two, whichever prediction is fixed
    (results/cifar10_lrm); on MNIST for two of three, B for none (results/mnist_lrm); on digits both
    for all (launch/lrm.flags).

    This loss couples its rows: each value depends on the means over the batch. Where h̄ is below
    4e-29 (1e-231 in float64) nothing is left to pair: that bound then takes its place, so that the
    ratio stays finite.

    Args:
      clean_logits: z, floating point [B, K].
      adversarial_logits: z′, floating point [B, K].
      labels: integers [B] in [0, K), or floating point [B, K], a distribution in each row (the
        paper smooths and mixes labels).
      pairing_ratio: r > 0, in reading B at most 1, a scalar; may be traced; None: no pairing.
      squeezing: β >= 0, a scalar or [B]; may be traced.
      reading: "A" or "B".
      alpha: share of the clean cross-entropy, in [0, 1] (eq. 1); 0 in the paper (section 5.2).
      axis_name: name of a mapped axis over which the batch is spread too.
      direction: whose prediction h is the expectation under: "clean", the first argument of h in
        eq. 11, or "adversarial", −Σ_k p_k(x̂) log p_k(x). The paper says "the cross entropy between
        the distributions" and leaves it open.
      detached_reference: whether that prediction is held fixed (sg), as a target of a cross-entropy
        often is; then h can only be lowered by agreeing with it. The paper does not say. False
        differentiates both, and h is lowered by being sure of any one class, too: that drives h
        towards 0 and its factor L̄ / h̄ beyond all bounds, and networks ended in NaN or at chance
        where this was tried: on digits, MNIST and CIFAR-10. That the paper's tool, TensorFlow 1,
        let no gradient into the labels of its softmax cross-entropy is our inference.

    Returns:
      [B], the loss per example.

    Raises:
      ValueError: shapes or types that do not fit, a label outside [0, K), or a coefficient, reading
        or direction that is not accepted. Under `jax.jit`, where values are unknown, such a label
        gives NaN, to all rows through the means.

    Example:
      >>> clean_logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> adversarial_logits = jnp.log(jnp.array([[0.25, 0.75]]))
      >>> loss = lrm(
      ...     clean_logits, adversarial_logits, jnp.array([0]), pairing_ratio=0.5, squeezing=0.0
      ... )
      >>> print(jax.device_get(loss).round(3))  # log 4 · (1 + 1 / ½)
      [4.159]

    Source: LRM (Summers and Dinneen, 2019), eqs. 1 and 11, sections 4.1 and 5.2.
    """
    clean_logits, adversarial_logits = arrays.checked_logits(
        "lrm", clean_logits=clean_logits, adversarial_logits=adversarial_logits
    )
    labels = arrays.checked_labels("lrm", clean_logits, labels)
    shape, dtype = clean_logits.shape[:-1], clean_logits.dtype
    squeezing = arrays.checked_coefficient("lrm: squeezing", squeezing, shape=shape, dtype=dtype)
    alpha = arrays.checked_coefficient("lrm: alpha", alpha, shape=shape, dtype=dtype, maximum=1)
    require_choice("lrm: reading", reading, READINGS)
    require_choice("lrm: direction", direction, DIRECTIONS)
    require_truth("lrm: detached_reference", detached_reference)
    _check_pairing_ratio(pairing_ratio, reading, dtype)
    loss = (1 - alpha) * cross_entropy(adversarial_logits, labels)
    loss += alpha * cross_entropy(clean_logits, labels)
    squeezed = logit_squeezing(clean_logits) + logit_squeezing(adversarial_logits)
    if pairing_ratio is None:
        return loss + squeezing * squeezed
    pairing_ratio = jnp.asarray(pairing_ratio, dtype)
    reference, paired_logits = clean_logits, adversarial_logits
    if direction == "adversarial":
        reference, paired_logits = paired_logits, reference
    if detached_reference:
        reference = jax.lax.stop_gradient(reference)
    pairing = _cross_entropy_between(reference, paired_logits)
    scaled_pairing = _ratio_of_means(loss, pairing, axis_name) * pairing
    if reading == "A":
        paired = loss + scaled_pairing / pairing_ratio
    else:
        paired = pairing_ratio * loss + (1 - pairing_ratio) * scaled_pairing
    return paired + squeezing * squeezed


def _check_pairing_ratio(pairing_ratio: ArrayLike | None, reading: str, dtype: jnp.dtype) -> None:
    if pairing_ratio is None:
        return
    array = arrays.as_array("lrm: pairing_ratio", pairing_ratio)
    if array.shape or not arrays.holds_numbers(array):
        raise refusal("lrm: pairing_ratio", arrays.kind(array), "None and single numbers")
    largest = 1.0 if reading == "B" else float(jnp.finfo(dtype).max)
    value = arrays.known(pairing_ratio)
    if value is not None and not 0 < float(value) <= largest:
        accepted = "more than 0 to 1" if reading == "B" else "finite and more than 0"
        accepted = f"None and, in reading {reading}, numbers {accepted}"
        raise refusal("lrm: pairing_ratio", shown(pairing_ratio), accepted)


@jax.custom_jvp
def _cross_entropy_between(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
    """−Σ_k p_k log q_k of two softmax predictions, [B]."""
    return -expectation(jnp.exp(log_softmax(p_logits)), log_softmax(q_logits))


# The ratio of means magnifies the gradient as much as the value is small, so the closed forms are
# needed here: they keep their relative precision, q − p as well as p_k (−log q_k − value).
@_cross_entropy_between.defjvp
def _cross_entropy_between_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    p_logits, q_logits = primals
    p_tangent, q_tangent = tangents
    p = jnp.exp(log_softmax(p_logits))
    top = class_mask(jnp.argmax(p_logits, -1), p_logits.shape[-1])
    # −log q_k up to a constant, which cancels against that in the mean.
    surprise = at_class(q_logits, top)[..., None] - q_logits
    surprise = jnp.where(jnp.isposinf(surprise) & (p == 0), 0, surprise)
    p_gradient = p * (surprise - jnp.sum(p * surprise, -1, keepdims=True))
    divergence = functools.partial(kl_divergence, p_logits)
    _, from_q = jax.jvp(divergence, (q_logits,), (q_tangent,))
    value = _cross_entropy_between(p_logits, q_logits)
    return value, jnp.sum(p_gradient * p_tangent, -1) + from_q


def _ratio_of_means(
    numerator: jax.Array, denominator: jax.Array, axis_name: str | None
) -> jax.Array:
    """The ratio of two batch means, not differentiated."""
    means = jax.lax.stop_gradient((jnp.mean(numerator), jnp.mean(denominator)))
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    above, below = means
    # Far enough from the smallest number that the ratio, times the loss's factors, is finite.
    smallest = jnp.asarray(jnp.finfo(below.dtype).tiny, below.dtype) ** 0.75
    return above / jnp.maximum(below, smallest)
