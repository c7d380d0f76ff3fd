"""How strong the attacks of a diagnosis of gradient masking are, and what withstood them."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from robustjax.arguments import refusal, require_whole, shown

FGSM_SCALES = (0.25, 0.5, 0.75, 1.0)
"""Single steps along one gradient, as multiples of epsilon."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How strong the compared attacks are.

    Attributes:
      step_size: of PGD in the ball, in units of the images; other balls scale it.
      steps: after so many PGD is looked at, ascending.
      attack_steps: of the restarts, the larger balls, the other losses, and the transfer.
      restarts: of PGD.
      queries: of Square; 0 leaves it out.
      random_points: of the random search.
    """

    step_size: float
    steps: tuple[int, ...] = (1, 5, 10, 20, 50, 100)
    attack_steps: int = 50
    restarts: int = 5
    queries: int = 500
    random_points: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.step_size < math.inf):
            raise refusal("step_size", shown(self.step_size), "finite numbers above 0")
        ascending = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if len(self.steps) < 2 or self.steps[0] < 1 or not ascending:
            raise refusal("steps", shown(self.steps), "two whole numbers or more from 1, ascending")
        for name, least in (
            ("attack_steps", 1), ("restarts", 2), ("queries", 0), ("random_points", 1)
        ):  # fmt: skip
            require_whole(name, getattr(self, name), least)


class Evidence(NamedTuple):
    """What withstands which attack; N examples, False wherever the clean image is misclassified.

    Attributes:
      clean: bool [N], classified correctly.
      steps: after which the long PGD was looked at, 0 (its start) first.
      compared_steps: those of them that the settings name.
      after_steps: bool [N, len(steps)], correct there; of the iterate, not of those before it.
      loss: float [N, len(steps)], the cross-entropy there; NaN where the clean image is wrong.
      fgsm: bool [N, 4], correct after single steps of `FGSM_SCALES`.
      random_point: bool [N], correct at one random point, the start of the long PGD.
      random_search: bool [N], correct at all random points.
      restarts: bool [N, R], withstands the first r restarts of PGD.
      epsilons: of the balls, ascending; the last one holds every image.
      at_epsilon: bool [N, len(epsilons)], withstands PGD in them.
      margin: bool [N], withstands PGD on the margin of the logits.
      dlr: bool [N], withstands APGD on the DLR loss; None below 3 classes.
      square: bool [N], withstands Square; None if it was left out.
      transfer: bool [N], correct at the adversarial images of another network; None without one.
      gradient: float [N], the largest entry of the cross-entropy's gradient at the clean image,
        infinite where an entry is not finite.
      clean_loss: float [N], the cross-entropy at the clean image.
      alignment: float [N], the cosine between the gradients at the clean image and at a random
        point of the ball; NaN where one is zero.
    """

    clean: np.ndarray
    steps: tuple[int, ...]
    compared_steps: tuple[int, ...]
    after_steps: np.ndarray
    loss: np.ndarray
    fgsm: np.ndarray
    random_search: np.ndarray
    restarts: np.ndarray
    epsilons: tuple[float, ...]
    at_epsilon: np.ndarray
    margin: np.ndarray
    dlr: np.ndarray | None
    square: np.ndarray | None
    transfer: np.ndarray | None
    gradient: np.ndarray
    clean_loss: np.ndarray
    alignment: np.ndarray

    def after(self, steps: int) -> np.ndarray:
        """Correct after so many steps of the long PGD, bool [N]."""
        return self.after_steps[:, self.steps.index(steps)]

    @property
    def longest(self) -> int:
        """The steps of the long PGD."""
        return self.steps[-1]

    @property
    def random_point(self) -> np.ndarray:
        """Correct at the random start of the long PGD, bool [N]."""
        return self.after(0)

    @property
    def worst_case(self) -> np.ndarray:
        """Withstands everything inside the ball that was tried, bool [N]."""
        single = (self.random_search, self.margin, self.dlr, self.square, self.transfer)
        several = (self.after_steps, self.fgsm, self.restarts)
        return np.logical_and.reduce(
            [found for found in single if found is not None]
            + [found.all(axis=1) for found in several]
        )
