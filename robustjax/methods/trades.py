"""TRADES (Zhang et al., 2019): natural cross-entropy plus β times the KL to PGD's images."""

from collections.abc import Callable

import jax

from robustjax import losses
from robustjax.methods.method import (
    Inner,
    Method,
    Objective,
    Outer,
    Perturbation,
    require_start,
)

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
    beta: float | Callable[[float], float] = 6.0,
    start: str = "gaussian",
    attack_batch_norm: str = "eval",
    clean_passes: int = 1,
) -> Method:
    """TRADES: min over θ of E[CE(z(x), y) + β · max over x̂ of KL(p(x) ‖ p(x̂))].

    The inner maximum is approached by PGD-K on the KL from x + 0.001·N(0, I), with the clean
    prediction held fixed. The gradient of the outer loss flows through both arguments of the KL.

    Args:
      beta: weight of the KL, the paper's 1/λ; a number or a function of the epoch.
      start: PGD's start: "gaussian" (the paper's Algorithm 1), "uniform", "sign" or "clean".
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".
      clean_passes: 1, or 2 as in the authors' code, which makes the KL's clean prediction in a
        forward pass of its own, after the adversarial one: the running batch-norm statistics see
        the clean batch twice, and dropout draws another mask.

    Source: Zhang et al. (2019), eq. 5 and Algorithm 1.
    """
    if clean_passes not in (1, 2):
        raise ValueError(f"clean_passes={clean_passes!r}: accepted are 1 (the paper) and 2")

    require_start(start)

    def perturb(inner: Inner) -> Perturbation:
        logits_fn = inner.network.logits_fn(attack_batch_norm)
        clean_logits = logits_fn(inner.batch.images)
        return inner.found(
            inner.pgd(logits_fn, loss=divergence_from_clean, target=clean_logits, start=start)
        )

    def outer(outer: Outer) -> Objective:
        keys = jax.random.split(outer.key, 3)
        labels, beta = outer.batch.labels, outer.scalars["beta"]
        clean_logits, network = outer.network.train(outer.batch.images, keys[0])
        adversarial_logits, network = network.train(outer.perturbation.images, keys[1])
        if clean_passes == 1:
            loss = losses.trades(clean_logits, adversarial_logits, labels, beta=beta)
        else:
            reference_logits, network = network.train(outer.batch.images, keys[2])
            loss = losses.cross_entropy(clean_logits, labels)
            loss += beta * losses.kl_divergence(reference_logits, adversarial_logits)
        return Objective(loss, network.statistics)

    return Method(
        name="trades",
        perturb=perturb,
        outer=outer,
        scalars={"beta": beta},
        attack_batch_norm=attack_batch_norm,
    )


def divergence_from_clean(logits: jax.Array, clean_logits: jax.Array) -> jax.Array:
    """KL(p(x) ‖ p(x̂)) [B] as the attack ascends it: logits of x̂ first, those of x as the target."""
    return losses.kl_divergence(clean_logits, logits)
