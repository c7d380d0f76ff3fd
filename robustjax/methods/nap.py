"""NAP (Chandna and Kutlesa, 2021): BCE on PGD's images less CE on natural ones."""

import jax

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation

SUMMARY = "NAP (Chandna and Kutlesa, 2021): BCE(x̂) − β·[p_y(x) − p_y(x̂)]₊·CE(x), x̂ by PGD-K on CE"

CITATION = """\
@misc{chandna2021improving,
  title     = {Improving Adversarial Robustness by Penalizing Natural Accuracy},
  author    = {Chandna, Kshitij and Kutlesa, Philip},
  note      = {New York University},
  year      = {2021},
}"""


def create(
    *,
    beta: Scalar = 6.0,
    boosted: bool = True,
    margin: bool = True,
    start: str = "uniform",
    attack_batch_norm: str = "train",
) -> Method:
    """NAP: min over θ of E[BCE(p(x̂), y) − β · sg[p_y(x) − p_y(x̂)]₊ · CE(p(x), y)].

    x̂ comes from PGD-K on the cross-entropy. The outer problem forwards the natural images first,
    then the adversarial ones. The margin is not differentiated, see `losses.nap`.

    Args:
      beta: weight of the penalty, the paper's λ; a number or a schedule. Without the margin the
        paper has 0.3 (section 4.3).
      boosted: False takes CE(p(x̂), y) for the first term (eq. 11; with margin False eq. 13).
      margin: False takes 1 for the margin (eq. 12).
      start: PGD's start: "uniform" (the paper says "random"), "sign" (±ε/2 in each pixel, the
        authors' code), "gaussian" or "clean".
      attack_batch_norm: "train", the batch's statistics as section 4.1 asks for, or "eval". The
        authors' code also lets the attack's passes move the running statistics, which change 13
        times in each step, 10 of them in the attack; that is not offered.

    Returns:
      The method; `beta` is a scalar of its steps, and labels must be hard.

    Raises:
      ValueError: a negative beta, or a choice that is none of those above.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("nap", beta=0.3, margin=False)
      >>> method.scalars_at(0.0), method.attack_batch_norm
      ({'beta': 0.3}, 'train')

    Source: Chandna and Kutlesa (2021), eqs. 4 and 11 to 13 and section 4.1.
    """
    require_choice("start", start, STARTS)
    require_choice("boosted", boosted, (True, False))
    require_choice("margin", margin, (True, False))

    def perturb(inner: Inner) -> Perturbation:
        return inner.found(inner.pgd(loss=losses.cross_entropy, start=start))

    def outer(outer: Outer) -> Objective:
        natural_key, adversarial_key = jax.random.split(outer.key)
        natural_logits, network = outer.network.train(outer.batch.images, natural_key)
        adversarial_logits, network = network.train(outer.perturbation.images, adversarial_key)
        loss = losses.nap(
            natural_logits,
            adversarial_logits,
            outer.batch.labels,
            beta=outer.scalars["beta"],
            boosted=boosted,
            margin=margin,
        )
        return Objective(loss, network.statistics)

    return Method(
        name="nap",
        perturb=perturb,
        outer=outer,
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        soft_labels=False,
    )
