"""Friendly adversarial training (Zhang et al., 2020): PGD that stops soon after it succeeds.

Three methods: FAT, FAT for TRADES and FAT for MART.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from robustjax import attacks, losses
from robustjax.arguments import require_choice, require_finite
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.errors import UserError
from robustjax.methods import mart
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.standard import adversarial_outer
from robustjax.methods.trades import ascend_divergence, divergence_outer

SUMMARY = "FAT (Zhang et al., 2020): CE on images of PGD-K that stops τ steps after it succeeds"
SUMMARY_TRADES = "FAT for TRADES (Zhang et al., 2020): TRADES with PGD-K-τ on the KL"
SUMMARY_MART = "FAT for MART (Zhang et al., 2020): MART with PGD-K-τ"

CITATION = """\
@inproceedings{zhang2020attacks,
  title     = {Attacks Which Do Not Kill Training Make Adversarial Learning Stronger},
  author    = {Zhang, Jingfeng and Xu, Xilie and Han, Bo and Niu, Gang and Cui, Lizhen and
               Sugiyama, Masashi and Kankanhalli, Mohan},
  booktitle = {International Conference on Machine Learning},
  year      = {2020},
}"""


def create(
    *,
    tau: Scalar = 0,
    start: str = "clean",
    omega: float = 0.0,
    projection: bool = True,
    attack_batch_norm: str = "eval",
) -> Method:
    """FAT: min over θ of E[CE(z(x̂), y)], x̂ by PGD-K-τ on the cross-entropy.

    PGD-K-τ stops an example τ steps after its first misclassification; τ counts misclassified
    points, consecutive or not. With τ = K it is standard adversarial training.

    Args:
      tau: τ, a whole number or a schedule of them; "0,1@50,2@90" is the authors' code for 120
        epochs.
      start: PGD's start: "clean" (the paper's Algorithm 1), "uniform" (the authors' code),
        "gaussian" or "sign".
      omega: standard deviation of normal noise added in every step; 0.001 in the authors' code, not
        in the paper's main algorithm.
      projection: False searches without the projection on the ball (appendix B); what is found
        is then the friendliest adversarial image of a search of K steps.
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".

    Returns:
      The method; `tau` is a scalar of its steps.

    Raises:
      ValueError: a tau that is no count, a negative omega, another start, or one that needs the
        ball that there is not without a projection.

    Example:
      >>> from robustjax import methods
      >>> method = methods.create("fat", tau="0,1@50,2@90")
      >>> [int(method.scalars_at(epoch)["tau"]) for epoch in (0, 50, 119)]
      [0, 1, 2]

    Source: Zhang et al. (2020), eq. 5, Algorithms 1 and 2, appendix B.
    """
    tau = _checked(tau, start, projection)
    require_finite("omega", omega, 0)

    def perturb(inner: Inner) -> Perturbation:
        options: dict[str, Any] = {} if projection else _without_ball(inner)
        result = inner.pgd(
            loss=losses.cross_entropy,
            start=start,
            stop=_friendly(inner),
            noise=omega or None,
            **options,
        )
        return inner.found(result)

    return Method(
        name="fat",
        perturb=perturb,
        outer=adversarial_outer(),
        scalars={"tau": tau},
        attack_batch_norm=attack_batch_norm,
    )


def create_trades(
    *,
    beta: Scalar = 6.0,
    tau: Scalar = 0,
    start: str = "gaussian",
    projection: bool = True,
    attack_batch_norm: str = "eval",
) -> Method:
    """FAT for TRADES: min over θ of E[CE(z(x), y) + β · KL(p(x) ‖ p(x̂))], x̂ by PGD-K-τ on the KL.

    Misclassification is judged by the label. The cross-entropy is that of the natural image, as in
    the paper's eq. 9 and in the authors' code; its Algorithm 4 prints that of x̂.

    Args:
      beta: weight of the KL; a number or a schedule. The paper has 1 and 6.
      tau: τ, a whole number or a schedule; "0,1@30,2@50,3@70" is the authors' code for 85 epochs.
      start: PGD's start: "gaussian" (the paper's Algorithm 3), "uniform", "sign" or "clean".
      projection: False searches without the projection on the ball (appendix B).
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".

    Returns:
      The method; `tau` and `beta` are scalars of its steps.

    Raises:
      ValueError: a tau that is no count, a negative beta, another start, or one that needs the
        ball that there is not without a projection.

    Example:
      >>> from robustjax import methods
      >>> methods.create("fat_trades", beta=1.0, tau="0,1@30").scalars_at(30.0)
      {'tau': 1.0, 'beta': 1.0}

    Source: Zhang et al. (2020), eq. 9, Algorithms 3 and 4.
    """
    tau = _checked(tau, start, projection)

    def perturb(inner: Inner) -> Perturbation:
        options: dict[str, Any] = {} if projection else _without_ball(inner)
        return inner.found(ascend_divergence(inner, start=start, stop=_friendly(inner), **options))

    return Method(
        name="fat_trades",
        perturb=perturb,
        outer=divergence_outer(("clean", "adversarial")),
        scalars={"tau": tau, "beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
    )


def create_mart(
    *,
    beta: Scalar = 6.0,
    tau: Scalar = 0,
    start: str = "clean",
    adversarial_first: bool = False,
    projection: bool = True,
    attack_batch_norm: str = "eval",
) -> Method:
    """FAT for MART: MART's loss with x̂ by PGD-K-τ on the cross-entropy.

    Args:
      beta: weight of the regulariser; a number or a schedule.
      tau: τ, a whole number or a schedule; "0,1@20,2@40,3@60,4@80" is the authors' code for 90
        epochs.
      start: PGD's start: "clean" (the paper's Algorithm 1), "gaussian" (the authors' code),
        "uniform" or "sign".
      adversarial_first: True forwards x̂ before x, as the authors' code; False as MART.
      projection: False searches without the projection on the ball (appendix B).
      attack_batch_norm: "eval" (the authors' code; the paper does not say) or "train".

    Returns:
      The method; `tau` and `beta` are scalars of its steps, and labels must be hard.

    Raises:
      ValueError: a tau that is no count, a negative beta, another start, or one that needs the
        ball that there is not without a projection.

    Example:
      >>> from robustjax import methods
      >>> methods.create("fat_mart", tau="0,1@20").scalars_at(20.0)
      {'tau': 1.0, 'beta': 6.0}

    Source: Zhang et al. (2020), appendix E.
    """
    tau = _checked(tau, start, projection)
    require_choice("adversarial_first", adversarial_first, (True, False))

    def perturb(inner: Inner) -> Perturbation:
        options: dict[str, Any] = {} if projection else _without_ball(inner)
        result = inner.pgd(
            loss=losses.cross_entropy,
            start=start,
            stop=_friendly(inner),
            **options,
        )
        return inner.found(result)

    def outer(outer: Outer) -> Objective:
        return mart.weighted_outer(
            outer, beta=outer.scalars["beta"], adversarial_first=adversarial_first
        )

    return Method(
        name="fat_mart",
        perturb=perturb,
        outer=outer,
        scalars={"tau": tau, "beta": checked_scalar("beta", beta, 0)},
        attack_batch_norm=attack_batch_norm,
        soft_labels=False,
    )


def _checked(tau: Scalar, start: str, projection: bool) -> Scalar:
    require_choice("start", start, STARTS)
    require_choice("projection", projection, (True, False))
    if not projection and start not in ("clean", "gaussian"):
        raise UserError(
            f"start={start!r}: without a projection there is no ball to draw from; accepted are "
            "clean, gaussian"
        )
    return checked_scalar("tau", tau, 0, whole=True)


def _friendly(inner: Inner) -> Any:
    return attacks.stopping.misclassified(inner.scalars["tau"].astype(jnp.int32))


def _without_ball(inner: Inner) -> dict[str, attacks.ThreatModel]:
    return {"threat": dataclasses.replace(inner.threat, epsilon=math.inf)}
