"""A second look at adversarial images, apart from the attack that made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from robustjax.attacks.autoattack.ensemble import Batches
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.attacks.engine.rows import predicted
from robustjax.attacks.threat_model import ThreatModel


def holds(
    judge: Callable[[jax.Array], jax.Array] | None,
    batches: Batches,
    threat: ThreatModel,
    positions: np.ndarray,
    images: np.ndarray,
) -> np.ndarray:
    """Whether adversarial images are what an attack said they are, see `ensemble.SecondLook`.

    Args:
      judge: the network; None: of one that is random a draw has judged them already.
      batches: all examples.
      threat: the ball, and a box.
      positions: int [n], of the examples.
      images: float [n, ...], theirs.
    """
    epsilon = np.broadcast_to(np.asarray(threat.epsilon), len(batches.images))[positions]
    assert threat.bounds is not None  # AutoAttack asks for a box.
    low, high = map(float, threat.bounds)
    found = is_inside(images, batches.images[positions], threat.norm, epsilon, (low, high))
    if judge is not None:
        again = dataclasses.replace(batches, labels=batches.labels[positions])
        found &= predicted(again.logits(judge, images)) != again.labels
    return found
