"""TRADES (Zhang et al., 2019): natural cross-entropy plus β times the KL to PGD's images."""

from collections.abc import Callable
from typing import Any

import jax

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks import AttackResult
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.methods.labels import labelled_cross_entropy, or_predicted
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation

SUMMARY = "TRADES (Zhang et al., 2019): CE(x) + β·KL(p(x)‖p(x̂)), x̂ by PGD-K on the KL"

CITATION = """\
@inproceedings{zhang2019theoretically,
  title     = {Theoretically Principled Trade-off between Robustness and Accuracy},
  author    = {Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric P. and
               El Ghaoui, Laurent and Jordan, Michael I.},
  booktitle = {International Conference on Machine Learning},
  pages     = {7472--7482},
  year      = {2019},
}"""


def create(
    *,
    beta: Scalar = 6.0,
    start: str = "gaussian",
    attack_batch_norm: str = "eval",
    clean_passes: int = 1,
) -> Method:
    """TRADES: min over θ of E[CE(z(x), y) + β · max over x̂ of KL(p(x) ‖ p(x̂))].

    The inner maximum is approached by PGD-K on the KL from x + 0.001·N(0, I), with the clean
    prediction held fixed. The gradient of the outer loss flows through both arguments of the KL.
    An example without a label takes part in the KL alone.

    Args:
      beta: weight of the KL, the paper's 1/λ; a number or a schedule.
      start: PGD's start: "gaussian" (the paper's Algorithm 1), "uniform", "sign" or "clean".
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".
      clean_passes: 1, or 2 as in the authors' code, which makes the KL's clean prediction in a
        forward pass of its own, after the adversarial one: the running batch-norm statistics see
        the clean batch twice, and dropout draws another mask.

    Returns:
      The method; `beta` is a scalar of its steps, and examples may lack a label.

    Raises:
      ValueError: a negative beta, or another start or number of passes.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("trades", beta="1,6@50")
      >>> method.scalars_at(49.9), method.scalars_at(50.0)
      ({'beta': 1.0}, {'beta': 6.0})

    Source: Zhang et al. (2019), eq. 5 and Algorithm 1.
    """
    require_choice("start", start, STARTS)
    require_choice("clean_passes", clean_passes, (1, 2))

    def perturb(inner: Inner) -> Perturbation:
        return inner.found(ascend_divergence(inner, start=start))

    return Method(
        name="trades",
        perturb=perturb,
        outer=divergence_outer(("clean", "adversarial", "reference")[: 1 + clean_passes]),
        scalars={"beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        unlabelled=True,
    )


def ascend_divergence(inner: Inner, **options: Any) -> AttackResult:
    """PGD on KL(p(x) ‖ p(x̂)), the clean logits computed once; options go to `attacks.pgd`."""
    clean_logits = inner.logits_fn(inner.batch.images)
    labels = or_predicted(inner.batch.labels, clean_logits)
    return inner.pgd(labels=labels, loss=divergence_from_clean, target=clean_logits, **options)


def divergence_outer(passes: tuple[str, ...]) -> Callable[[Outer], Objective]:
    """CE(z(x), y) + β KL(p(x) ‖ p(x̂)), β being the scalar "beta".

    Args:
      passes: the forward passes in their order, "clean" and "adversarial", and perhaps
        "reference": a second clean pass, whose prediction the KL then takes.
    """

    def outer(outer: Outer) -> Objective:
        keys = jax.random.split(outer.key, 3)
        images = {"adversarial": outer.perturbation.images}
        logits, network = {}, outer.network
        for key, name in zip(keys, passes, strict=False):
            logits[name], network = network.train(images.get(name, outer.batch.images), key)
        reference = logits.get("reference", logits["clean"])
        divergence = losses.kl_divergence(reference, logits["adversarial"])
        loss = labelled_cross_entropy(logits["clean"], outer.batch.labels)
        return Objective(loss + outer.scalars["beta"] * divergence, network.statistics)

    return outer


def divergence_from_clean(logits: jax.Array, clean_logits: jax.Array) -> jax.Array:
    """KL(p(x) ‖ p(x̂)) [B] as the attack ascends it: logits of x̂ first, those of x as the target."""
    return losses.kl_divergence(clean_logits, logits)
