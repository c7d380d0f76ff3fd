"""Timing that survives a busy machine: all sides alternate, and ratios are taken round by round."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
      run: does the work once and returns when it is done, on the device too.
      prepare: called before each `run`, outside the clock.
    """

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some measurements and their quartiles."""

    median: float
    lower_quartile: float
    upper_quartile: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of one or more values; quartiles interpolate between them."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, lower, upper)

    def times(self, factor: float) -> "Spread":
        """All three, multiplied by a positive factor."""
        return Spread(*(factor * value for value in dataclasses.astuple(self)))


def alternate(
    sides: Mapping[str, Side],
    rounds: int,
    *,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Times all sides in turn, so that what disturbs the machine disturbs all of them.

    Each round begins with another side, which keeps any from always running after the same one.

    Args:
      sides: name -> what to time.
      rounds: how often each is timed.
      warmup: rounds before those, which are not counted.
      clock: seconds.
      tick: called after every single run.

    Returns:
      Name -> the seconds of each round, in the order of the rounds.
    """
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sides[name].prepare()
            started = clock()
            sides[name].run()
            elapsed = clock() - started
            if number >= 0:
                seconds[name].append(elapsed)
            tick()
    return seconds


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Spread:
    """The spread of the ratios of two sides' seconds, each ratio within one round."""
    return Spread.of([one / other for one, other in zip(numerator, denominator, strict=True)])
