"""The figure of an item, drawn like the paper's: points on lines, curves per epoch, or bars."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.files import Path
from robustjax.papers.item import Curves, Item, Points, Row
from robustjax.papers.measured import Cell, is_trained
from robustjax.papers.planned import Networks, Request
from robustjax.reports.figures.canvas import add_legend, add_title, line_style, save, write_numbers
from robustjax.reports.figures.log import LoggedRun, quantities_of_runs
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS


def draw(
    item: Item,
    rows: Sequence[Row],
    cells: Sequence[Cell],
    request: Request,
    networks: Networks,
    path: Path,
) -> Path | None:
    """Draws what is measured of an item, and writes the numbers beside it.

    Args:
      item: a table or figure whose figure is neither an analysis nor an experiment.
      rows: those of its rows that are wanted.
      cells: of `measured.cells_of`.
      request: how they were made.
      networks: found with this request.
      path: of the PNG.

    Returns:
      `path`; None where nothing is there to draw.
    """
    if isinstance(item.figure, Curves):
        lines = {row.name: _logs(row, item, request, networks) for row in rows}
        there = {name: runs for name, runs in lines.items() if runs}
        return quantities_of_runs(there, item.figure.keys, path, item.title) if there else None
    measured = [cell for cell in cells if cell.ours is not None]
    if not measured:
        return None
    if isinstance(item.figure, Points):
        return _points(item, item.figure, rows, measured, path)
    return _bars(item, measured, path)


def _logs(row: Row, item: Item, request: Request, networks: Networks) -> list[LoggedRun]:
    if row.training is None:
        return []
    configs = [networks.config(row.training, seed) for seed in request.seeds_of(item)]
    folders = [Path(config.workdir) for config in configs if is_trained(config)]
    return [LoggedRun(folder, read_rows(folder / METRICS)) for folder in folders]


def _points(
    item: Item, points: Points, rows: Sequence[Row], cells: Sequence[Cell], path: Path
) -> Path:
    """A panel for each column, a line for each `line` of rows; the paper's points are hollow."""
    by_name = {row.name: row for row in rows}
    heads = list(dict.fromkeys(cell.column for cell in cells))
    lines = list(dict.fromkeys(row.line for row in rows))
    across = min(len(heads), 3)
    down = -(-len(heads) // across)
    figure = Figure(figsize=(4.2 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    numbers = []
    for panel, head in zip(panels, heads, strict=False):
        for number, line in enumerate(lines):
            found = [
                (by_name[cell.row].x, cell)
                for cell in cells
                if cell.column == head and by_name[cell.row].line == line
            ]
            placed = sorted(
                ((x, cell) for x, cell in found if x is not None), key=lambda pair: pair[0]
            )
            _draw_line(panel, placed, line or "ours", number)
            numbers += [
                (line, head, x, cell.ours, cell.deviation or 0.0, cell.paper) for x, cell in placed
            ]
        panel.set(title=head, xlabel=points.x_label, ylabel="accuracy (%)")
        panel.grid(alpha=0.3)
        if points.log:
            _scale_log(panel, [row.x for row in rows if row.x])
    for panel in panels[len(heads) :]:
        panel.set_visible(False)
    if len(lines) > 1:
        add_legend(figure, len(lines))
    is_published = any(cell.paper is not None for cell in cells)
    add_title(figure, f"{item.title}; hollow: the paper's" if is_published else item.title)
    write_numbers(path, ("line", "column", "x", "ours", "deviation", "paper"), numbers)
    return save(figure, path)


def _draw_line(panel: Axes, placed: Sequence[tuple[float, Cell]], line: str, number: int) -> None:
    style = line_style(number)
    panel.errorbar(
        [x for x, _ in placed],
        [cell.ours or 0.0 for _, cell in placed],
        yerr=[cell.deviation or 0.0 for _, cell in placed],
        marker="o",
        markersize=3,
        capsize=2,
        label=line,
        **style,
    )
    published = [(x, cell.paper) for x, cell in placed if cell.paper is not None]
    if published:
        panel.plot(
            [x for x, _ in published],
            [value for _, value in published],
            "o",
            fillstyle="none",
            color=style["color"],
        )


def _scale_log(panel: Axes, above_zero: Sequence[float]) -> None:
    """A logarithmic axis on which 0 has a place."""
    if above_zero:
        panel.set_xscale("symlog", linthresh=min(above_zero))


def _bars(item: Item, cells: Sequence[Cell], path: Path) -> Path:
    """A group of bars for each row, a bar for each column; the paper's number is a black stroke."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    heads = list(dict.fromkeys(cell.column for cell in cells))
    size = (7.5, 0.9 + 0.14 * len(rows) * (len(heads) + 1))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    height = 0.85 / len(heads)
    for place, head in enumerate(heads):
        found = [(rows.index(cell.row), cell) for cell in cells if cell.column == head]
        heights = [number + (place + 0.5) * height - 0.425 for number, _ in found]
        axes.barh(
            heights,
            [cell.ours or 0.0 for _, cell in found],
            height,
            xerr=[cell.deviation or 0.0 for _, cell in found],
            error_kw={"linewidth": 0.8},
            label=head,
        )
        for middle, (_, cell) in zip(heights, found, strict=True):
            if cell.paper is not None:
                axes.plot(
                    [cell.paper] * 2, [middle - height / 2, middle + height / 2], "k-", lw=1.2
                )
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(xlabel="ours; black: the paper's")
    add_title(figure, item.title)
    axes.grid(axis="x", alpha=0.3)
    add_legend(figure, len(heads))
    numbers = [(c.row, c.column, c.ours, c.deviation or 0.0, c.paper) for c in cells]
    write_numbers(path, ("row", "column", "ours", "deviation", "paper"), numbers)
    return save(figure, path)
