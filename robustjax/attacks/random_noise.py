"""Random noise: the adversary that knows nothing, and the baseline of those that know something."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from robustjax.arguments import checked_count
from robustjax.attacks.pgd import PGD
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageLabels


@dataclasses.dataclass(frozen=True)
class RandomNoise:
    """`random_noise` as a value.

    Attributes:
      draws: how many points each example has, at least 1.
    """

    draws: int = 1

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageLabels,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images, as `random_noise` does."""
        draws = checked_count("draws", self.draws, 1)
        attack = PGD(steps=0, start="uniform", restarts=draws)
        return attack(key, logits_fn, images, labels, threat)


def random_noise(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    *,
    draws: int = 1,
) -> AttackResult:
    """The worst of some points drawn uniformly from the ball, each clipped to the box.

    It is `pgd` without steps. Kept, per example, is the first misclassified point, else the point
    of the highest cross-entropy. Images that are misclassified before are drawn for like the rest:
    where none of their points is misclassified, the noise has corrected them, and they count as no
    success. A call costs one forward pass per draw.

    Args:
      key: one random key, or `[B]` keys.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works).
      labels: int `[B]` in [0, K), or probabilities `[B, K]`.
      threat: the norm ball, of finite epsilon, and the box.
      draws: how many points each example has, at least 1.

    Returns:
      An `AttackResult`; backward_passes is 0 everywhere.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted; the message says
        which.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = random_noise(jax.random.key(0), network, images, labels, threat, draws=20)
      >>> print(result.success)
      [ True]

    Source: the random perturbations that papers set beside their attacks, for instance Explaining
      and Harnessing Adversarial Examples (Goodfellow et al., 2015), section 5.
    """
    return RandomNoise(draws)(key, logits_fn, images, labels, threat)
