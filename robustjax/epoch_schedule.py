"""Numbers that follow the epoch, written as text: a method's τ, c, β, K, or the attack's ε."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

from robustjax.arguments import LARGEST_COUNT, LARGEST_FLOAT32, require_finite, shown
from robustjax.errors import UserError
from robustjax.text import format_value, parse_number

Scalar = float | str | Callable[[float], float]
"""A number, the text of a schedule, or a function of the epoch."""

ACCEPTED = (
    'a number; steps, as "0,1@50,2@90" (0, then 1 once 50 epochs are complete, 2 after 90); '
    'or a line, as "0.5..0@100" (from 0.5 to 0 over the first 100 epochs, then 0)'
)


@dataclasses.dataclass(frozen=True)
class EpochSchedule:
    """A piecewise constant or linear function of the epoch.

    Attributes:
      epochs: where the values hold, increasing, the first 0.
      values: one for each.
      linear: whether to interpolate; otherwise a value holds until the next.
    """

    epochs: tuple[float, ...]
    values: tuple[float, ...]
    linear: bool = False

    def __post_init__(self) -> None:
        increasing = all(earlier < later for earlier, later in itertools.pairwise(self.epochs))
        if tuple(self.epochs[:1]) != (0,) or not increasing:
            raise UserError(f"epochs={shown(self.epochs)}: accepted are increasing ones from 0 on")
        if len(self.values) != len(self.epochs):
            raise UserError(f"values={shown(self.values)}: accepted is one for each of the epochs")

    def __call__(self, epoch: float) -> float:
        """The value at an epoch: 1.5 is the middle of the second."""
        last = max(place for place, start in enumerate(self.epochs) if start <= max(epoch, 0.0))
        if not self.linear or last == len(self.epochs) - 1:
            return self.values[last]
        start, end = self.epochs[last], self.epochs[last + 1]
        share = (epoch - start) / (end - start)
        return self.values[last] + share * (self.values[last + 1] - self.values[last])

    def __str__(self) -> str:
        texts = [format_value(float(value)) for value in self.values]
        if self.linear:
            return f"{texts[0]}..{texts[1]}@{_exactly(self.epochs[1])}"
        later = zip(texts[1:], self.epochs[1:], strict=True)
        return ",".join([texts[0], *(f"{text}@{_exactly(epoch)}" for text, epoch in later)])


def _exactly(epoch: float) -> str:
    return repr(epoch).removesuffix(".0")


def parse_schedule(text: str) -> EpochSchedule:
    """The schedule that a text describes, see `ACCEPTED`.

    Raises:
      ValueError: it describes none.
    """
    refusal = UserError(f"{text!r:.100}: accepted are {ACCEPTED}")
    if not isinstance(text, str):
        raise refusal
    try:
        first, dots, rest = text.partition("..")
        if dots:
            last, _, epoch = rest.partition("@")
            points = [(0.0, parse_number(first)), (float(epoch), parse_number(last))]
        else:
            head, *others = text.split(",")
            points = [(0.0, parse_number(head))]
            for part in others:
                value, _, epoch = part.partition("@")
                points.append((float(epoch), parse_number(value)))
    except ValueError:
        raise refusal from None
    epochs = tuple(epoch for epoch, _ in points)
    if not all(math.isfinite(number) for point in points for number in point):
        raise refusal
    if any(later <= earlier for earlier, later in itertools.pairwise(epochs)):
        raise refusal
    values = tuple(value for _, value in points)
    if dots and not math.isfinite(values[1] - values[0]):
        raise refusal
    return EpochSchedule(epochs, values, linear=bool(dots))


def known_values(value: float | Callable[[float], float]) -> tuple[float, ...]:
    """The numbers that a value or a schedule runs through, as far as they are known.

    Those of a linear schedule lie between them; of a function nothing is known.
    """
    if isinstance(value, EpochSchedule):
        return value.values
    return () if callable(value) else (value,)


def checked_scalar(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    *,
    whole: bool = False,
) -> Scalar:
    """A hyper-parameter that may follow a schedule: a number or a function of the epoch.

    Args:
      name: of the hyper-parameter.
      value: a number, a function of the epoch, or the text of a schedule.
      minimum: the least value accepted.
      maximum: the largest; never more than the step can hold, a float32 or, of counts, an int32.
      whole: whether it counts something, so that a value that is held is a whole number.

    Raises:
      ValueError: it is none of these, or leaves the range.
    """
    if isinstance(value, str):
        try:
            value = parse_schedule(value)
        except ValueError as error:
            raise UserError(f"{name}={error}") from None
    largest = LARGEST_COUNT if whole else LARGEST_FLOAT32
    for number in known_values(value):
        require_finite(name, number, minimum, maximum)
        if abs(number) > largest:
            raise UserError(f"{name}={shown(number)}: accepted are numbers up to {largest:.10g}")
        if whole and not float(number).is_integer():
            raise UserError(f"{name}={number:g}: accepted are whole numbers")
    return value
