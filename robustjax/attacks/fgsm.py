"""The fast gradient sign method: one full-size step of projected gradient ascent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from robustjax import losses
from robustjax.arguments import refusal, shown
from robustjax.attacks import _checks as checks
from robustjax.attacks.pgd import PGD, Loss, with_sparsity
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageLabels


@dataclasses.dataclass(frozen=True)
class FGSM:
    """`fgsm` as a value; see there for the settings.

    Attributes:
      loss: ascended; a function, or the name of one of `pgd.LOSSES`.
      start: as for `PGD`.
      sparsity: as for `PGD`.
    """

    loss: Loss | str = losses.cross_entropy
    start: CleanImages | str = "clean"
    sparsity: float | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> FGSM:
        """Under "l1" with the sparsity of the step as a number."""
        return with_sparsity(self, threat)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageLabels,
        threat: ThreatModel,
        *,
        target: Any = None,
        start: CleanImages | None = None,
    ) -> AttackResult:
        """Attacks images; the arrays, which belong to the images, are as for `fgsm`."""
        if not checks.has_finite_epsilon(checks.checked_threat_type(threat)):
            accepted = "finite numbers: the fast gradient sign method steps by epsilon"
            raise refusal("threat.epsilon", shown(threat.epsilon), accepted)
        attack = PGD(
            steps=1,
            step_size=threat.epsilon,
            loss=self.loss,
            start=self.start,
            sparsity=self.sparsity,
        )
        return attack(key, logits_fn, images, labels, threat, target=target, start=start)


def fgsm(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    *,
    loss: Callable[[jax.Array, Any], jax.Array] = losses.cross_entropy,
    target: Any = None,
    start: CleanImages | str = "clean",
    sparsity: float | None = None,
) -> AttackResult:
    r"""One step of size epsilon in the steepest direction.

    .. math:: x = \Pi\big(x_0 + \epsilon \operatorname{sign} \nabla \ell(z(x_0), y)\big)

    Under "l2" the sign becomes the normalised gradient (the fast gradient method), under "l1" the
    signs in the pixels of the largest gradients, over their number.

    Args:
      key: a random key, or `[B]` keys; of no effect with the default start.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`.
      images: clean images, floating, `[B, H, W, C]`.
      labels: int `[B]`, or probabilities `[B, K]`.
      threat: the norm ball, with a finite epsilon, and the box.
      loss: ascended; called as `loss(logits, target)`, gives `[B]`.
      target: defaults to the labels.
      start: as for `pgd`. "clean" is the method as published; "uniform" is `fgsm-random` by name,
        the step that FAT's tables 1, 3 and 4 are of. From there it ends at full distance only in
        the pixels whose start lay on the side that it steps to, and finds less.
      sparsity: as for `pgd`.

    Returns:
      An `AttackResult`; backward_passes is 1 everywhere.

    Raises:
      ValueError: epsilon is infinite, or as for `pgd`.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = fgsm(jax.random.key(0), network, images, labels, threat)
      >>> print(result.success)
      [ True]

    Source: Explaining and Harnessing Adversarial Examples (Goodfellow et al., 2015), section 4;
      from a random start FAT (Zhang et al., 2020), table 3.
    """
    return FGSM(loss, start, sparsity)(key, logits_fn, images, labels, threat, target=target)
