"""What a function returns, judged by its annotation: tests/conftest.py hooks this into the library.

Arguments are the library's own to judge. They are looked at only for the sizes (B, K, …) that the
result is to have: where one does not fit its annotation, the function refuses it by an error of its
own, which tests ask for, or takes more than it promises (lists, numbers of Python).
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

import beartype
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import AbstractArray


class WrongShape(Exception):
    """A part of a result is not what its annotation says."""


def judged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A type checker for jaxtyping, as `beartype.beartype` is one, of shapes alone."""
    hints = {
        name: hint if _names_a_shape(hint) else Any
        for name, hint in function.__annotations__.items()
    }
    judged_parts = _parts_of(function.__annotations__.get("return"))
    if not judged_parts and all(hint is Any for hint in hints.values()):
        return lambda *arguments, **named: None
    function.__annotations__ = hints
    strict = beartype.beartype(function)

    @functools.wraps(function)
    def judge(*arguments: Any, **named: Any) -> None:
        try:
            result = strict(*arguments, **named)
        except BeartypeCallHintParamViolation:
            return
        for part, hint in judged_parts.items():
            value = getattr(result, part)
            if not isinstance(value, hint):
                raise WrongShape(f"{part} is {value!r:.200}, not {hint}")

    return judge


def _names_a_shape(hint: Any) -> bool:
    if isinstance(hint, type):
        return issubclass(hint, AbstractArray)
    return any(map(_names_a_shape, typing.get_args(hint)))


@functools.cache
def _parts_of(record: Any) -> dict[str, Any]:
    """The arrays of a dataclass or a named tuple, in shape and kind."""
    if not dataclasses.is_dataclass(record) and not hasattr(record, "_fields"):
        return {}
    hints = typing.get_type_hints(record).items()
    return {part: hint for part, hint in hints if isinstance(hint, type) and _names_a_shape(hint)}
