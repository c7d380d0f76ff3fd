"""LRM (Summers and Dinneen, 2019): logit pairing decoupled into pairing and squeezing."""

import jax

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.standard import ascend_cross_entropy, require_attack
from robustjax.parallel import AXIS

SUMMARY = "LRM (Summers and Dinneen, 2019): CE(x̂) + decoupled logit pairing + logit squeezing"

CITATION = """\
@article{summers2019improved,
  title     = {Improved Adversarial Robustness via Logit Regularization Methods},
  author    = {Summers, Cecilia and Dinneen, Michael J.},
  journal   = {arXiv:1906.03749},
  year      = {2019},
}"""


def create(
    *,
    pairing_ratio: float | None = 0.125,
    squeezing: Scalar = 1e-3,
    reading: str = "A",
    direction: str = "clean",
    detached_reference: bool = True,
    alpha: Scalar = 0.0,
    start: str = "uniform",
    attack_labels: str = "soft",
    attack_batch_norm: str = "eval",
) -> Method:
    """LRM: adversarial training with decoupled logit pairing and logit squeezing.

    min over θ of E[CE(z(x̂), y) + (its fraction) h(z(x), z(x̂)) + β (‖z(x)‖² + ‖z(x̂)‖²)], see
    `losses.lrm`. x̂ comes from PGD-K on the cross-entropy. The outer problem forwards the clean
    images first. The means behind the fraction are of all rows alike, whatever `extra_weight` says.
    Label smoothing and VH-mixup, the other parts of the paper's combination, are
    options of every method that takes soft labels: `label_smoothing=0.1 mixing=vh_mixup`.

    Args:
      pairing_ratio: r, "the ratio between the adversarial training loss and the pairing loss":
        0.125 on CIFAR-10, 0.95 on CIFAR-100 and SVHN; None: no pairing.
      squeezing: β; a number or a schedule. 1e-3 on CIFAR-10, 3e-5 on CIFAR-100, 1e-4 on SVHN.
      reading: what the ratio means, "A" (loss to weighted pairing as r to 1) or "B" (r loss and
        1 − r pairing); see `losses.lrm`, which also says where either of them trained.
      direction: whose prediction h is the expectation under, "clean" or "adversarial". The paper
        does not say.
      detached_reference: whether that prediction is held fixed; see `losses.lrm`. The paper does
        not say; with False training ended in NaN or at chance where it was tried.
      alpha: share of the clean loss (eq. 1); 0 in the paper (section 5.2).
      start: PGD's start: "uniform", "gaussian", "sign" or "clean".
      attack_labels: with smoothed or mixed labels, what the attack ascends the cross-entropy of:
        "soft", the very distribution, or "hard", its largest class. The paper does not say.
      attack_batch_norm: "eval" or "train". The paper does not say; there is no official code.

    Returns:
      The method; `squeezing` and `alpha` are scalars of its steps. With pairing it couples the rows
      of a batch.

    Raises:
      ValueError: a coefficient outside its range, or a choice that is none of those above.

    Example:
      >>> from robustjax import methods
      >>> [methods.create("lrm", pairing_ratio=r).couples_rows for r in (0.125, None)]
      [True, False]

    Source: Summers and Dinneen (2019), eqs. 1 and 11, sections 4.1 and 5.2.
    """
    require_attack(start, attack_labels)
    require_choice("reading", reading, ("A", "B"))
    require_choice("direction", direction, ("clean", "adversarial"))
    require_choice("detached_reference", detached_reference, (False, True))
    if pairing_ratio is not None:
        largest = 1.0 if reading == "B" else float("inf")
        require_finite("pairing_ratio", pairing_ratio, 1e-6, largest)

    def perturb(inner: Inner) -> Perturbation:
        return ascend_cross_entropy(inner, start, attack_labels)

    def outer(outer: Outer) -> Objective:
        clean_key, adversarial_key = jax.random.split(outer.key)
        clean_logits, network = outer.network.train(outer.batch.images, clean_key)
        logits, network = network.train(outer.perturbation.images, adversarial_key)
        loss = losses.lrm(
            clean_logits,
            logits,
            outer.batch.labels,
            pairing_ratio=pairing_ratio,
            squeezing=outer.scalars["squeezing"],
            reading=reading,
            direction=direction,
            detached_reference=detached_reference,
            alpha=outer.scalars["alpha"],
            axis_name=AXIS,
        )
        return Objective(loss, network.statistics)

    return Method(
        name="lrm",
        perturb=perturb,
        outer=outer,
        scalars={
            "squeezing": checked_scalar("squeezing", squeezing, 0),
            "alpha": checked_scalar("alpha", alpha, 0, 1),
        },
        attack_batch_norm=attack_batch_norm,
        couples_rows=pairing_ratio is not None,
    )
