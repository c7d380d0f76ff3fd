"""Tables as plain text, for the terminal and, as Markdown, for a README."""

from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, the first ones left and numbers right.

    A column is one of numbers if every entry of it begins with a digit or is "-".
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(3, *(len(entry) for entry in column)) for column in columns]
    numeric = [
        bool(rows) and all(entry[:1].isdigit() or entry == "-" for entry in column[1:])
        for column in columns
    ]

    def line(entries: Sequence[str]) -> str:
        cells = (
            entry.rjust(width) if right else entry.ljust(width)
            for entry, width, right in zip(entries, widths, numeric, strict=True)
        )
        return f"| {' | '.join(cells)} |"

    rule = (
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    )
    return "\n".join([line(header), f"| {' | '.join(rule)} |", *map(line, rows)])
