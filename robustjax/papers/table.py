"""The table of an item: the paper's numbers, ours, and the difference."""

from collections.abc import Sequence

from robustjax.papers.item import Item, Published
from robustjax.papers.measured import Cell

_NOTHING = ""


def to_markdown(item: Item, cells: Sequence[Cell]) -> str:
    """The cells in the paper's arrangement, and below it each by itself with its interval.

    Args:
      item: the table or figure.
      cells: of `measured.cells_of`.
    """
    lines = [
        f"In per cent where it is an accuracy; ours / the paper's; {item.centre} ± sample standard "
        "deviation of several seeds.",
        "",
        *as_in_paper(item, cells),
    ]
    measured = [cell for cell in cells if cell.ours is not None]
    if measured:
        lines += ["", *_each(measured)]
    return "\n".join(lines) + "\n"


def as_in_paper(item: Item, cells: Sequence[Cell]) -> list[str]:
    """The lines of a Markdown table with the paper's rows and columns; cells are ours / paper's."""
    heads = [column.name for column in item.columns]
    rows: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, {})[cell.column] = cell
    lines = [_line(["", *heads]), "| --- |" + " ---: |" * len(heads)]
    for label, by_column in rows.items():
        lines.append(_line([label, *(_both(by_column.get(head)) for head in heads)]))
    return lines


def _each(cells: Sequence[Cell]) -> list[str]:
    lines = [
        _line(["row", "column", "paper", "ours", "95 % interval", "difference", "examples"]),
        "| --- | --- |" + " ---: |" * 5,
    ]
    for cell in cells:
        low_high = cell.interval
        interval = _NOTHING if low_high is None else f"{low_high[0]:.2f} to {low_high[1]:.2f}"
        difference = _NOTHING if cell.difference is None else f"{cell.difference:+.2f}"
        examples = {one.examples for one in cell.seen.values()} - {0}
        attacked = ", ".join(str(number) for number in sorted(examples))
        parts = [published_text(cell.published), ours_text(cell), interval, difference, attacked]
        lines.append(_line([cell.row, cell.column, *parts]))
    return lines


def _both(cell: Cell | None) -> str:
    if cell is None:
        return _NOTHING
    ours, paper = ours_text(cell), published_text(cell.published)
    return f"{ours or '–'} / {paper or '–'}" if ours or paper else _NOTHING


def ours_text(cell: Cell) -> str:
    """Ours, with the deviation where there are several seeds; "" where nothing is measured."""
    if cell.ours is None:
        return _NOTHING
    deviation = _NOTHING if cell.deviation is None else f" ± {cell.deviation:.2f}"
    return f"{cell.ours:.2f}{deviation}"


def published_text(published: Published | None) -> str:
    """A published number as it is printed; "" where there is none."""
    if published is None:
        return _NOTHING
    if isinstance(published, tuple):
        return f"{published[0]:g} ± {published[1]:g}"
    return published if isinstance(published, str) else f"{published:g}"


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(part.replace("|", "\\|") for part in parts) + " |"
