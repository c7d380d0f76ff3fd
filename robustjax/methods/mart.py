"""MART (Wang et al., 2020): BCE on PGD's images, and a KL that weighs the misclassified more."""

import jax

from robustjax import losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.trades import ascend_divergence

SUMMARY = "MART (Wang et al., 2020): BCE(x̂) + β·KL(p(x)‖p(x̂))·(1 − p_y(x)), x̂ by PGD-K on CE"

CITATION = """\
@inproceedings{wang2020improving,
  title     = {Improving Adversarial Robustness Requires Revisiting Misclassified Examples},
  author    = {Wang, Yisen and Zou, Difan and Yi, Jinfeng and Bailey, James and
               Ma, Xingjun and Gu, Quanquan},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
}"""

_SELECTION = 1
"""Folded into an example's key to draw whether it is regularised."""


def create(
    *,
    beta: Scalar = 6.0,
    start: str = "uniform",
    attack_batch_norm: str = "eval",
    attack_loss: str = "ce",
    classifier: str = "bce",
    divergence: bool = True,
    weighted: bool = True,
    proportion: float = 1.0,
) -> Method:
    """MART: min over θ of E[BCE(p(x̂), y) + β · KL(p(x) ‖ p(x̂)) · (1 − p_y(x))].

    x̂ comes from PGD-K on the cross-entropy. The outer problem forwards the clean images first, then
    the adversarial ones. Semi-supervised MART is the same loss on labelled and pseudo-labelled
    examples, weight γ (`extra_data`, `extra_weight`).

    Args:
      beta: weight of the regulariser, the paper's λ; a number or a schedule.
      start: PGD's start: "uniform" (the paper's Algorithm 1), "gaussian" (the authors' code),
        "sign" or "clean".
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".
      attack_loss: "ce", or "kl" for KL(p(x) ‖ p(x̂)) in the inner maximisation (figure 2b).
      classifier: "bce"; "ce", BCE replaced by CE; or "natural_bce", BCE on natural examples
        (figure 2b).
      divergence: False removes the KL (figure 2a).
      weighted: False removes 1 − p_y(x) (figure 2a).
      proportion: share of the examples, drawn anew in every step, that are regularised (figure 2c).

    The authors' code adds small constants inside the logarithms; here the formulas are exact, see
    `losses.mart`. Its WRN-34-10 runs use weight decay 7e-4, which the paper does not say.

    Returns:
      The method; `beta` is a scalar of its steps, and labels must be hard.

    Raises:
      ValueError: a negative beta, a proportion outside [0, 1], or a choice that is none of those
        above.

    Example:
      >>> from robustjax import methods
      >>> methods.create("mart", beta=5.0, classifier="ce").soft_labels
      False

    Source: Wang et al. (2020), eqs. 8 to 11, Algorithm 1 and figure 2.
    """
    require_choice("start", start, STARTS)
    require_choice("attack_loss", attack_loss, ("ce", "kl"))
    require_choice("classifier", classifier, ("bce", "ce", "natural_bce"))
    require_choice("divergence", divergence, (True, False))
    require_choice("weighted", weighted, (True, False))
    require_finite("proportion", proportion, 0, 1)

    def perturb(inner: Inner) -> Perturbation:
        if attack_loss == "kl":
            result = ascend_divergence(inner, start=start)
        else:
            result = inner.pgd(loss=losses.cross_entropy, start=start)
        keys = fold_in_each(inner.keys, _SELECTION)
        return inner.found(result, notes=jax.vmap(jax.random.uniform)(keys) < proportion)

    def outer(outer: Outer) -> Objective:
        regularised = outer.perturbation.notes
        return weighted_outer(
            outer,
            beta=outer.scalars["beta"] * regularised,
            classifier=classifier,
            divergence=divergence,
            weighted=weighted,
        )

    return Method(
        name="mart",
        perturb=perturb,
        outer=outer,
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        soft_labels=False,
    )


def weighted_outer(outer: Outer, *, adversarial_first: bool = False, **options) -> Objective:
    """MART's loss with `options` of `losses.mart`; one pass of the clean images, one of x̂."""
    keys = jax.random.split(outer.key)
    images = [outer.batch.images, outer.perturbation.images]
    logits: dict[int, jax.Array] = {}
    network = outer.network
    for place in (1, 0) if adversarial_first else (0, 1):
        logits[place], network = network.train(images[place], keys[place])
    return Objective(
        losses.mart(logits[0], logits[1], outer.batch.labels, **options), network.statistics
    )
