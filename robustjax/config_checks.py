"""What an option of an experiment accepts by its type: texts, truth values, numbers, schedules."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from robustjax.arguments import (
    LARGEST_COUNT,
    LARGEST_SEED,
    MOST_CPU_DEVICES,
    require_choice,
    require_finite,
    require_whole,
    shown,
)
from robustjax.epoch_schedule import parse_schedule
from robustjax.errors import UserError
from robustjax.text import Value

_AT_LEAST_1 = ("epochs", "batch_size", "checkpoint_every", "measure_steps", "measure_examples")

_LARGEST = {"seed": LARGEST_SEED, "cpu_devices": MOST_CPU_DEVICES}
"""Of whole numbers, where that is not what a compiled program can count."""

_MINUS_1_TOO = ("holdout",)
"""Numbers that may be -1; all others are at least 0."""


def check_option(field: dataclasses.Field, kind: Any, value: Any) -> None:
    """Refuses what is not of an option's type, no choice of it, or a number out of all range.

    Args:
      field: the option.
      kind: its type.
      value: what was given.

    Raises:
      ValueError: names the option, the value and what is accepted.
    """
    _check_type(field.name, kind, value)
    if field.metadata["choices"]:
        require_choice(field.name, value, field.metadata["choices"])


def _check_type(name: str, kind: Any, value: Any) -> None:
    least = -1 if name in _MINUS_1_TOO else int(name in _AT_LEAST_1)
    kinds = typing.get_args(kind)
    if value is None and type(None) in kinds:
        return
    if kind is bool:
        _require_kind(name, value, lambda part: isinstance(part, bool), "true or false")
    elif kind is int:
        require_whole(name, value, least, _LARGEST.get(name, LARGEST_COUNT))
    elif kind is str:
        _require_kind(name, value, _is_line, "a text of one line")
    elif typing.get_origin(kind) is not tuple and str in kinds and isinstance(value, str):
        require_schedule(name, value, whole=False)
    elif kind is float or type(None) in kinds:
        require_finite(name, value, least, accepted=f"finite numbers, {least} or more")
    else:
        _require_kind(name, value, lambda part: isinstance(part, tuple), "a tuple")
        for part in value:
            if float in kinds:
                require_finite(name, part, least, accepted=f"finite numbers, {least} or more")
            else:
                _require_kind(name, part, _is_line, "a text of one line")


def _require_kind(name: str, value: Any, is_right: Callable[[Any], bool], accepted: str) -> None:
    if not is_right(value):
        raise UserError(f"{name}={shown(value)}: accepted is {accepted}")


def _is_line(value: Any) -> bool:
    """Whether a value is a text that one line of a flag file can hold, spaces around it not."""
    return isinstance(value, str) and value.splitlines() in ([], [value]) and value == value.strip()


def require_schedule(name: str, text: str, *, whole: bool) -> None:
    """Refuses a text that is no schedule of numbers, 0 or more, or of whole ones.

    Raises:
      ValueError: names the option and what is wrong.
    """
    try:
        values = parse_schedule(text).values if text else ()
    except ValueError as error:
        raise UserError(f"{name}={error}") from None
    for value in values:
        require(value >= 0, name, value, "0 or more")
        if whole:
            require(value.is_integer(), name, value, "whole numbers of steps")
            require_whole(name, int(value))


def require(condition: bool, name: str, value: Value, accepted: str) -> None:
    """Refuses a value of an option unless a condition holds.

    Raises:
      ValueError: names the option, the value and what is accepted.
    """
    if not condition:
        raise UserError(f"{name}={shown(value)}: accepted are {accepted}")
