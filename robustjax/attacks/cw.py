"""Carlini and Wagner's margin loss inside the L-infinity ball, ascended by projected gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from robustjax import losses
from robustjax.arguments import refusal
from robustjax.attacks import _checks as checks
from robustjax.attacks.pgd import PGD, with_step_size
from robustjax.attacks.result import AttackResult
from robustjax.attacks.stopping import StopRule
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageClasses, ImageLabels


@dataclasses.dataclass(frozen=True)
class CW:
    """`cw_linf` as a value; see there for the settings.

    Attributes:
      steps: number of steps.
      step_size: in units of the images; None: max(ε / 10, 2 ε / steps).
      start: as for `PGD`.
      stop: as for `PGD`.
      restarts: as for `PGD`.
      success: as for `PGD`.
      targets: as for `PGD`.
    """

    steps: int = 30
    step_size: jax.Array | float | None = None
    start: CleanImages | str = "uniform"
    stop: StopRule | None = None
    restarts: int = 1
    success: str = "last"
    targets: str | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> CW:
        """With the step size as a number."""
        return with_step_size(self, threat)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageLabels,
        threat: ThreatModel,
        *,
        targets: ImageClasses | None = None,
        start: CleanImages | None = None,
        independent_rows: bool = False,
    ) -> AttackResult:
        """Attacks images; the arrays, which belong to the images, are as for `cw_linf`."""
        if checks.checked_threat_type(threat).norm != "linf":
            accepted = "linf; for another norm call pgd with loss=losses.cw_margin"
            raise refusal("threat.norm", threat.norm, accepted)
        attack = PGD(loss=losses.cw_margin, **vars(self))
        return attack(
            key,
            logits_fn,
            images,
            labels,
            threat,
            targets=targets,
            start=start,
            independent_rows=independent_rows,
        )


def cw_linf(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    *,
    steps: int = 30,
    step_size: jax.Array | float | None = None,
    start: CleanImages | str = "uniform",
    stop: StopRule | None = None,
    restarts: int = 1,
    success: str = "last",
    targets: ImageClasses | str | None = None,
    independent_rows: bool = False,
) -> AttackResult:
    r"""`pgd` on the margin :math:`\max_{k \ne y} z_k - z_y`: the papers' CW-infinity.

    This is not Carlini and Wagner's own L-infinity attack, which searches for the smallest epsilon
    with a penalty, but what MART and FAT report as CW: their loss, optimised by 30 steps of PGD in
    a given ball. Their code caps the margin at a confidence of 50, which changes no sign of a
    gradient until an example is wrong by 50 logits, and is left out here.

    Args:
      key: one random key, or `[B]` keys.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`.
      images: clean images, floating, `[B, H, W, C]`.
      labels: int `[B]`.
      threat: an "linf" ball and a box.
      steps: number of steps.
      step_size: in units of the images; a scalar or `[B]`. None: as for `pgd`, which with 30 steps
        is the epsilon / 10 that MART's and FAT's papers evaluate with.
      start: as for `pgd`. FAT's Table 2 starts at "clean".
      stop: as for `pgd`.
      restarts: as for `pgd`.
      success: as for `pgd`.
      targets: as for `pgd`: what is ascended then is how far the target is ahead of all others.
      independent_rows: as for `pgd`.

    Returns:
      An `AttackResult`.

    Raises:
      ValueError: the norm is not "linf", epsilon is infinite and no step size is given, or as for
        `pgd`.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = cw_linf(jax.random.key(0), network, images, labels, threat, steps=5)
      >>> print(result.success)
      [ True]

    Source: Towards Evaluating the Robustness of Neural Networks (Carlini & Wagner, 2017), objective
      f6; used as here in MART (Wang et al., 2020), section 4.2, and FAT (Zhang et al., 2020),
      section 6.
    """
    by_name, classes = (targets, None) if isinstance(targets, str) else (None, targets)
    return CW(steps, step_size, start, stop, restarts, success, by_name)(
        key,
        logits_fn,
        images,
        labels,
        threat,
        targets=classes,
        independent_rows=independent_rows,
    )
