"""What checks find, and how a verdict follows: exact tests of comparisons, the worst one decides.

Nothing here knows what is compared; that is said by `diagnosis.rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

FALSE_ALARM = 0.01
"""The chance of calling a network suspicious that keeps within all the rules, at most."""

UNDECIDED_BELOW = 0.05
"""A p-value below this, of one comparison by itself, is too small to let its check pass."""

PASS, UNDECIDED, SUSPICIOUS = "pass", "undecided", "suspicious"
"""What is said of a check and of a network, from the best to the worst."""

SIGN_TEST, BINOMIAL_TEST = "sign test", "binomial test"

_MOST_EXAMPLES, _SIZES_TRIED = 10**6, 400
"""Where still more examples would decide, no number is named; it is found to about 3 %."""


class Comparison(NamedTuple):
    """Examples that speak against a network, of those that could have.

    Attributes:
      statement: what they have in common.
      count: how many.
      of: of how many.
      allowed: the largest share of them that keeps within the rule.
      test: `SIGN_TEST` where they are examples that exactly one of two attacks breaks, else
        `BINOMIAL_TEST`; both are exact and one-sided.
    """

    statement: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    of: int
    allowed: float
    test: str = BINOMIAL_TEST

    @property
    def p_value(self) -> float:
        """The chance of as many or more at the allowed share."""
        return float(stats.binom.sf(self.count - 1, self.of, self.allowed))

    def verdict(self, level: float) -> str:
        """What the p-value says, where below `level` is `SUSPICIOUS`."""
        if self.p_value < level:
            return SUSPICIOUS
        return UNDECIDED if self.p_value < UNDECIDED_BELOW else PASS

    def deciding_factor(self, level: float) -> float | None:
        """How many times the examples would make the same share suspicious.

        Args:
          level: of `Diagnosis`.

        Returns:
          About, and at least 1; None where the share keeps within the rule, or only a million
          examples and more would do.
        """
        if self.of >= _MOST_EXAMPLES or self.count <= self.allowed * self.of:
            return None
        sizes = np.unique(np.geomspace(self.of, _MOST_EXAMPLES, _SIZES_TRIED).astype(int))
        counts = np.floor(sizes * (self.count / self.of))
        enough = stats.binom.sf(counts - 1, sizes, self.allowed) < level
        return float(sizes[np.argmax(enough)] / self.of) if enough.any() else None


class Check(NamedTuple):
    """One rule and what was found about it.

    Attributes:
      name: of the check.
      rule: in words.
      comparisons: each may break the rule.
      verdict: the worst of theirs, see `judge`.
      evidence: further numbers, JSON.
    """

    name: str
    rule: str
    comparisons: tuple[Comparison, ...]
    verdict: str
    evidence: dict[str, Any]


class Diagnosis(NamedTuple):
    """All checks of a network.

    Attributes:
      checks: in order.
      level: a comparison is suspicious if its p-value is below.
    """

    checks: tuple[Check, ...]
    level: float

    @property
    def suspicious(self) -> tuple[str, ...]:
        """The names of the checks that are."""
        return self._names(SUSPICIOUS)

    @property
    def undecided(self) -> tuple[str, ...]:
        """The names of the checks that neither pass nor are suspicious."""
        return self._names(UNDECIDED)

    @property
    def verdict(self) -> str:
        """The worst of the checks' verdicts."""
        return _worst(check.verdict for check in self.checks)

    def _names(self, verdict: str) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if check.verdict == verdict)


def diagnosed(checks: Sequence[Check]) -> Diagnosis:
    """Gives checks their verdicts.

    With m comparisons in all, one is suspicious below 0.01 / m, so that a network within all rules
    is called suspicious with a probability of 1 % at most (Bonferroni). One that is not, but whose
    p-value is below 0.05, is undecided: more examples decide it.

    Args:
      checks: with comparisons; what they have for a verdict is not looked at.
    """
    level = FALSE_ALARM / sum(len(check.comparisons) for check in checks)
    return Diagnosis(
        tuple(
            check._replace(verdict=_worst(part.verdict(level) for part in check.comparisons))
            for check in checks
        ),
        level,
    )


def _worst(verdicts: Iterable[str]) -> str:
    return max(verdicts, key=(PASS, UNDECIDED, SUSPICIOUS).index, default=PASS)
