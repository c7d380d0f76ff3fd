"""What a page shows, as plain values: the macros of templates/elements.html draw them.

A list of values is drawn as one, with a point for each.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Collection, Sequence
from typing import ClassVar, NamedTuple, TypeAlias

from robustjax.runs.folder import size_of_png


@dataclasses.dataclass(frozen=True)
class Code:
    """A flag, a path, or a name of a file."""

    text: str
    kind: ClassVar[str] = "code"


@dataclasses.dataclass(frozen=True)
class Commands:
    """Commands for the terminal, a line or more each."""

    text: str
    kind: ClassVar[str] = "commands"


@dataclasses.dataclass(frozen=True)
class Link:
    """A text that leads to the place of that id."""

    text: str
    place: str
    kind: ClassVar[str] = "link"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    pairs: Sequence[tuple[str, Value]]
    kind: ClassVar[str] = "facts"


@dataclasses.dataclass(frozen=True)
class Remark:
    """A sentence, and what it is of; "" for nothing in particular."""

    of: str
    text: str
    kind: ClassVar[str] = "remark"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """An accuracy, with its interval below it, and before it "best" or the like."""

    text: str
    interval: str
    mark: str = ""
    kind: ClassVar[str] = "accuracy"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      head: of the columns.
      rows: as long as `head`; the first cell is the row's heading.
      caption: what the table shows.
      numbers: the columns that hold numbers.
      ends_in_total: whether the last row is a sum of the others.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Value]]
    caption: str
    numbers: Collection[int] = ()
    ends_in_total: bool = False
    kind: ClassVar[str] = "table"


Value: TypeAlias = str | list["Value"] | Code | Commands | Link | Remark | Facts | Accuracy | Table


class Figure(NamedTuple):
    """A PNG inside the page; `name` is that of its file, if it has one."""

    source: str
    width: int
    height: int
    alt: str
    caption: str
    name: str = ""


def figure(png: bytes, *, alt: str, caption: str, name: str = "") -> Figure:
    """A PNG as it goes into the page.

    Args:
      png: its content.
      alt: what it shows, for who cannot see it.
      caption: below it.
      name: of its file.
    """
    width, height = size_of_png(png)
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return Figure(source, width, height, alt, caption, name)
