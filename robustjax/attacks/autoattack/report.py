"""What an ensemble of attacks found."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class AutoAttackReport:
    """What AutoAttack found.

    Attributes:
      robust: bool [N], correct on the clean image and under every attack.
      robust_accuracy: accuracy after each attack, in [0, 1], in the order of the attacks: "clean",
        "apgd-ce", "apgd-t", "fab-t" and "square"; of version "rand" "clean", "apgd-ce" and
        "apgd-dlr"; of a lone attack "clean" and its name.
      images: float [N, H, W, C], misclassified where `robust` is False, else the clean ones.
      warnings: sentences about what may make the figure misleading.
      seconds: time of each attack, compilation included.
    """

    robust: np.ndarray
    robust_accuracy: dict[str, float]
    images: np.ndarray
    warnings: tuple[str, ...]
    seconds: dict[str, float]
