"""Checks of the hyper-parameters that a method is created with: one clear sentence each."""

import math
from typing import Any

from robustjax.arguments import (
    LARGEST_COUNT,
    LARGEST_FLOAT32,
    require_choice,
    require_finite,
    shown,
)
from robustjax.attacks.pgd import STARTS
from robustjax.epoch_schedule import Scalar, known_values, parse_schedule
from robustjax.errors import UserError


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


def require_start(start: str) -> None:
    """Refuses a start that PGD does not know by name.

    Raises:
      ValueError: names the start and those there are.
    """
    require_choice("start", start, STARTS)
