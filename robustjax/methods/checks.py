"""Checks of the hyper-parameters that a method is created with: one clear sentence each."""

import math
from collections.abc import Sequence
from typing import Any

from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, known_values, parse_schedule


def checked_scalar(
    name: str, value: Any, minimum: float = -math.inf, maximum: float = math.inf
) -> Scalar:
    """A hyper-parameter that may follow a schedule: a number or a function of the epoch.

    Args:
      name: of the hyper-parameter.
      value: a number, a function of the epoch, or the text of a schedule.
      minimum: the least value accepted.
      maximum: the largest.

    Raises:
      ValueError: it is none of these, or leaves the range.
    """
    if isinstance(value, str):
        try:
            value = parse_schedule(value)
        except ValueError as error:
            raise ValueError(f"{name}={error}") from None
    for number in known_values(value):
        require_number(name, number, minimum, maximum)
    return value


def require_number(
    name: str, value: Any, minimum: float = -math.inf, maximum: float = math.inf
) -> None:
    """Refuses what is not a finite number in [minimum, maximum].

    Raises:
      ValueError: names the hyper-parameter, the value and the range.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and minimum <= value <= maximum:
        return
    limits = [f"at least {minimum:g}"] * math.isfinite(minimum)
    limits += [f"at most {maximum:g}"] * math.isfinite(maximum)
    raise ValueError(
        f"{name}={value!r}: accepted is a finite number{', ' if limits else ''}"
        f"{' and '.join(limits)}"
    )


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses what is not one of a few values.

    Raises:
      ValueError: names the hyper-parameter, the value and the choices.
    """
    if isinstance(value, bool) != isinstance(choices[0], bool) or value not in choices:
        accepted = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name}={value!r}: accepted are {accepted}")


def require_start(start: str) -> None:
    """Refuses a start that PGD does not know by name.

    Raises:
      ValueError: names the start and those there are.
    """
    require_choice("start", start, STARTS)
