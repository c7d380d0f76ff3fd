"""Any JSON value as facts, tables and text: what a report shows without knowing its form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from robustjax.reports.html.elements import Facts, Table, Value
from robustjax.reports.recorded_scores import format_setting
from robustjax.runs.log import format_seconds

_FRACTIONS = ("accuracy", "after_each", "interval_95", "success_rate")
_DEEPEST = 6

_TITLES = {"after_each": "accuracy after it", "broken_by_it": "broken by it"}

_NUMBER = re.compile(r"-?[\d.,]+(e[+-]?\d+)?( %| s| points)?|–")


def title(key: str) -> str:
    """A key as words: "per_class" is "per class"."""
    return _TITLES.get(key) or str(key).replace("_", " ")


def scalar(key: str, value: Any) -> str:
    """A single value as text; accuracies are fractions in JSON and per cent on the page."""
    number = is_number(value)
    if number and key.endswith(_FRACTIONS) and 0 <= value <= 1:
        return f"{100 * value:.2f} %"
    if number and key.endswith("seconds"):
        return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
    return "–" if value is None else format_setting(value)


def render(key: str, value: Any, depth: int = 0) -> Value:
    """A JSON value as text, a list of facts or a table.

    Args:
      key: its name, which says what its numbers are.
      value: mappings, sequences and single values.
      depth: how many values it lies in; very deep ones are text.
    """
    if not isinstance(value, Mapping | list | tuple):
        return scalar(key, value)
    if not value:
        return "none"
    if depth >= _DEEPEST:
        return _as_text(key, value)
    if isinstance(value, Mapping):
        if all(isinstance(part, Mapping) and part for part in value.values()):
            return _records(value, key, depth)
        return Facts(
            [
                (title(name), render(_inherited(key, name), part, depth + 1))
                for name, part in value.items()
            ]
        )
    if all(isinstance(part, Mapping) and part for part in value):
        return _list_of_records(value, key, depth)
    if all(isinstance(part, list | tuple) for part in value):
        return _matrix(value, key, depth)
    if any(isinstance(part, Mapping | list | tuple) for part in value):
        return [render(key, part, depth + 1) for part in value]
    return ", ".join(scalar(key, part) for part in value)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def duration(seconds: Any) -> str | None:
    """A time as h:mm:ss; None if it is no number."""
    return f"{format_seconds(seconds)} h" if is_number(seconds) else None


def known(*pairs: tuple[str, Any]) -> list[tuple[str, Value]]:
    """The facts that are known, with their values as text."""
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def columns_of_numbers(columns: Mapping[str, Mapping[str, Any]], caption: str, first: str) -> Table:
    """Mappings over much the same names, side by side.

    Args:
      columns: title -> name -> value.
      caption: of the table.
      first: what the names are.
    """
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [
        [name, *(scalar(key, column[name]) if name in column else "–"
                 for key, column in columns.items())]
        for name in names
    ]  # fmt: skip
    head = [first, *map(title, columns)]
    return _table(head, rows, caption)


def _records(rows: Mapping[str, Mapping[str, Any]], key: str, depth: int) -> Table:
    """Mappings of much the same keys as the rows of a table, each with its name."""
    keys = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [
        [
            name,
            *(
                render(_inherited(key, column), row[column], depth + 1) if column in row else "–"
                for column in keys
            ),
        ]
        for name, row in rows.items()
    ]
    return _table(["", *map(title, keys)], cells, title(key))


def _list_of_records(values: Sequence[Mapping[str, Any]], key: str, depth: int) -> Table:
    keys = list(dict.fromkeys(name for row in values for name in row))
    cells = [
        [render(name, row[name], depth + 1) if name in row else "–" for name in keys]
        for row in values
    ]
    return _table(list(map(title, keys)), cells, title(key))


def _matrix(values: Sequence[Sequence[Any]], key: str, depth: int) -> Table:
    width = max(map(len, values))
    rows = [
        [str(number), *(render(key, part, depth + 1) for part in row), *[""] * (width - len(row))]
        for number, row in enumerate(values)
    ]
    head = ["", *map(str, range(width))]
    return _table(head, rows, title(key))


def _table(head: Sequence[str], rows: Sequence[Sequence[Value]], caption: str) -> Table:
    """A table whose columns of numbers are aligned as such."""
    numbers = [
        column
        for column in range(1, len(head))
        if all(isinstance(cell := row[column], str) and _NUMBER.fullmatch(cell) for row in rows)
    ]
    return Table(head, rows, caption, numbers)


def _as_text(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{title(name)}: {_as_text(name, part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_as_text(key, part) for part in value)
    return scalar(key, value)


def _inherited(key: str, name: str) -> str:
    """The key whose ending says what a number is: accuracies by attack are accuracies."""
    own = name.endswith((*_FRACTIONS, "seconds"))
    inherits = key.endswith((*_FRACTIONS, "seconds"))
    return key if inherits and not own else name
