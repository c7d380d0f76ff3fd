"""What stops the examples of a batch: a budget each, drawn with a given mean, or FAT's rule."""

import dataclasses
from collections.abc import Sequence

import numpy as np

SPREADS = ("uniform", "geometric")
"""How budgets spread about their mean: evenly, as widely as 0 and K allow, or like an attack that
ends with the same probability after every step, cut off at K."""

SLACK = 0.10
"""What the compacted loop may take beside its passes, as a share of the time of PGD-K."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A batch of examples that stop before the attack's last step.

    Attributes:
      name: what the table calls it.
      budget: int32 [B], steps of each example; None if a rule stops them.
      tau: of FAT's rule, misclassified points that an example is let pass; None with a budget.
    """

    name: str
    budget: np.ndarray | None = None
    tau: int | None = None


def create(
    means: Sequence[int],
    spread: str,
    taus: Sequence[int],
    *,
    steps: int,
    batch_size: int,
    seed: int,
) -> list[Case]:
    """A case for every mean budget, and one for every τ.

    Args:
      means: mean budgets, each in 0 to `steps`.
      spread: one of `SPREADS`.
      taus: of FAT's rule, each 0 or more.
      steps: of the attack, K.
      batch_size: examples.
      seed: of the order in which the budgets are dealt out.
    """
    random = np.random.default_rng(seed)
    budgets = [
        Case(f"{spread} budget", budget=random.permutation(drawn(spread, mean, steps, batch_size)))
        for mean in means
    ]
    return budgets + [Case(f"τ = {tau}", tau=tau) for tau in taus]


def bound(mean_steps: float, steps: int) -> float:
    """The time that the compacted loop may take, over that of PGD-K.

    Args:
      mean_steps: mean number of steps that an example takes. One more evaluation stops it.
      steps: K.
    """
    return (mean_steps + 1) / steps + SLACK


def drawn(spread: str, mean: int, steps: int, batch_size: int) -> np.ndarray:
    """Budgets int32 [batch_size] in 0 to `steps`, ascending: the distribution's own quantiles."""
    survival = _survival(spread, mean, steps)
    quantiles = (np.arange(batch_size) + 0.5) / batch_size
    return (quantiles[:, None] > 1 - survival).sum(axis=1).astype(np.int32)


def _survival(spread: str, mean: int, steps: int) -> np.ndarray:
    """The probabilities [steps] that a budget is at least 1, 2, ...; they add up to its mean."""
    counts = np.arange(1, steps + 1)
    if spread == "uniform":
        lowest = max(0, 2 * mean - steps)
        values = 2 * (mean - lowest) + 1
        return np.clip((lowest + values - counts) / values, 0, 1)
    low, high = 0.0, 1.0
    for _ in range(60):
        going_on = (low + high) / 2
        low, high = (low, going_on) if np.sum(going_on**counts) > mean else (going_on, high)
    return high**counts
