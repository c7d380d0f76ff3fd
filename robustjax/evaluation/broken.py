"""A few examples that an attack breaks, kept so that a person can look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from robustjax import data

KEPT = 6
"""Of each attack, at most: the first that it breaks."""

Predict = Callable[[np.ndarray], np.ndarray]
"""Images [N, H, W, C] -> logits [N, K]."""


class BrokenExamples(NamedTuple):
    """The first examples that are right clean and wrong under an attack, N of them.

    Attributes:
      positions: int [N], in the data set.
      labels: int [N].
      clean: float32 [N, H, W, C] in [0, 1].
      adversarial: float32 [N, H, W, C] in [0, 1].
      clean_logits: float [N, K].
      adversarial_logits: float [N, K].
    """

    positions: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    adversarial: np.ndarray
    clean_logits: np.ndarray
    adversarial_logits: np.ndarray


class FirstBroken:
    """Collects the first examples that are broken, batch after batch.

    Args:
      stored: what `as_arrays` gave, to go on with.
    """

    def __init__(self, stored: dict[str, np.ndarray] | None = None) -> None:
        found = stored or {}
        self._positions = list(found.get("broken_positions", ()))
        self._images = list(found.get("broken_images", ()))

    def add(self, positions: np.ndarray, broken: np.ndarray, images: Any) -> None:
        """Takes of a batch what there is room for.

        Args:
          positions: int [B], in the data set.
          broken: bool [B].
          images: [B, H, W, C], the adversarial ones.
        """
        chosen = np.flatnonzero(broken)[: KEPT - len(self._positions)]
        if len(chosen):
            self._positions += list(positions[chosen])
            self._images += list(np.asarray(images)[chosen])

    def as_arrays(self) -> dict[str, np.ndarray]:
        """What was collected, to be stored; nothing if nothing was."""
        if not self._positions:
            return {}
        return {
            "broken_positions": np.array(self._positions),
            "broken_images": np.stack(self._images),
        }

    def of(self, dataset: data.Dataset, predict: Predict) -> BrokenExamples | None:
        """The examples with what the network says of them; None if nothing was broken."""
        if not self._positions:
            return None
        rows = np.array(self._positions)
        clean = np.array(data.to_float(dataset.images[rows]))
        adversarial = np.stack(self._images)
        # Together, since they fill one batch.
        logits = np.split(predict(np.concatenate([clean, adversarial])), 2)
        return BrokenExamples(rows, np.array(dataset.labels[rows]), clean, adversarial, *logits)
