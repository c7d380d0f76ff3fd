"""HTML as nested calls: everything that is not an element already is escaped."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from robustjax.runs.folder import size_of_png

_VOID = frozenset(("br", "hr", "img", "link", "meta"))

# Not allowed in HTML, or not in UTF-8.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)

_WIDE = 640
"""A figure of more pixels is not made smaller than this on a narrow screen; its box scrolls."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def element(name: str, /, *children: Child, **attributes: Any) -> Markup:
    """One element.

    Args:
      name: of the tag.
      *children: `Markup` as it is, other text escaped, None left out, or several of them.
      **attributes: True: no value; None: left out; `class_` is class, and `_` becomes `-`.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other, without an element around them."""
    return Markup("".join(_text(child) for child in children))


def heading(level: int, *children: Child, **attributes: Any) -> Markup:
    """A heading, h1 to h6."""
    return element(f"h{min(level, 6)}", *children, **attributes)


def table(
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    caption: Child,
    numbers: Iterable[int] = (),
    last_row_stands_out: bool = False,
) -> Markup:
    """A table in a box of its own, which scrolls where the table is wider than the page.

    Args:
      head: of the columns.
      rows: as long as `head`; the first cell is the row's heading.
      caption: what the table shows.
      numbers: the columns that hold numbers.
      last_row_stands_out: whether the last row is a sum of the others.
    """
    numbers, rows = frozenset(numbers), [list(row) for row in rows]
    style = dict.fromkeys(numbers, "number")
    lines = []
    for place, row in enumerate(rows):
        stands_out = last_row_stands_out and place == len(rows) - 1
        cells = [
            element("td", cell, class_=style.get(column)) for column, cell in enumerate(row[1:], 1)
        ]
        heading = element("th", row[0], scope="row")
        lines.append(element("tr", heading, cells, class_="total" if stands_out else None))
    titles = [
        element("th", cell, scope="col", class_=style.get(column))
        for column, cell in enumerate(head)
    ]
    return _scroll_box(
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", titles)),
            element("tbody", lines),
        ),
        "table",
    )


def facts(pairs: Iterable[tuple[Child, Child]]) -> Markup:
    """Names and what they are."""
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", rows, class_="facts") if rows else Markup()


def figure(png: bytes, *, alt: str, caption: Child, scale: int = 1) -> Markup:
    """A PNG inside the page.

    Args:
      png: its content.
      alt: what it shows, for who cannot see it.
      caption: below it.
      scale: pixels of the PNG for one of the page.
    """
    width, height = (size // scale for size in size_of_png(png))
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    image = element("img", src=source, alt=alt, width=width, height=height)
    if width > _WIDE:
        image = _scroll_box(image, "wide")
    return element("figure", image, element("figcaption", caption))


def folded(summary: Child, *children: Child) -> Markup:
    """What is read only when asked for; printed in full."""
    return element("details", element("summary", summary), *children)


def command(text: str) -> Markup:
    """A command for the terminal."""
    return element("pre", element("code", text))


def _scroll_box(content: Markup, kind: str) -> Markup:
    # Reached by the keyboard, lest what is scrolled away be out of reach without a mouse.
    return element("div", content, class_=f"scroll {kind}", tabindex="0")


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{_escape(str(value))}"'


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return _escape(child)
    return "".join(_text(part) for part in child)


def _escape(text: str) -> str:
    return html.escape(_UNPRINTABLE.sub("\ufffd", re.sub("\r\n?", "\n", text)))
