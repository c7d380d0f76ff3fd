"""Values of options as text: numbers and fractions read, values written as a flag takes them."""

import math
import re
from fractions import Fraction
from typing import Any

from robustjax.arguments import plain
from robustjax.errors import UserError

Value = bool | int | float | str | tuple

_MOST_DIGITS = 4000
"""Of a whole number; Python reads some more, and refuses what is longer still."""


def parse_number(text: str | float | int) -> float:
    """A number, or a fraction of two: "0.031", "1e-3", "8/255".

    Raises:
      ValueError: it is neither.
    """
    text = plain(text)
    if isinstance(text, int | float):
        return float(text)
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{text!r} is not a number such as 0.031 or 8/255") from None
    return value


def parse_literal(text: str) -> Any:
    """A hyper-parameter's value: none, a boolean, a whole number, a number or fraction, or text."""
    text = text.strip()
    if text.lower() == "none":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d+", text) and len(text) <= _MOST_DIGITS:
        return int(text)
    try:
        return parse_number(text)
    except ValueError:
        return text


def format_value(value: Value | None) -> str:
    """A value as a flag takes it; a float that is a fraction of 255 is written as one."""
    if isinstance(value, tuple):
        return ",".join(format_value(part) for part in value)
    value = plain(value)
    if isinstance(value, float) and 0 < value < 1 and not _is_short(value):
        numerator = float(Fraction(value * 255).limit_denominator(4))
        if numerator / 255 == value:
            return f"{numerator:g}/255"
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value)


def _is_short(value: float) -> bool:
    return len(repr(value)) <= 8


def split_names(text: str) -> list[str]:
    """Names between commas; those inside of parentheses belong to the name."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
