"""The page of documentation about a paper, from the paper as data and from what is measured."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustjax import attacks, losses
from robustjax.files import Path
from robustjax.papers.item import Equation, Experiment, Item, Paper
from robustjax.papers.measured import Cell
from robustjax.papers.table import as_in_paper

FIRST_LINE = "<!-- made by tools/paper_pages.py from robustjax/papers -->"


def to_markdown(paper: Paper, results: Path, link: str) -> str:
    """The page of a paper.

    Args:
      paper: as data.
      results: the folder of what launch/reproduce.py wrote, a folder for each item that was made.
      link: how the page refers to that folder.
    """
    lines = [FIRST_LINE, "", f"# {paper.title}", "", f"{paper.authors}.", "", paper.algorithm, ""]
    lines += ["## Equations", "", "| paper | formula | here |", "| --- | --- | --- |"]
    lines += [_equation_line(equation) for equation in paper.equations]
    lines += ["", "## Where the paper is open, or its code differs", ""]
    lines += [f"* {difference}" for difference in paper.differences]
    lines += ["", "## Tables and figures", "", _HOW, ""]
    for item in paper.items:
        lines += _section(paper, item, results, link)
    return "\n".join(lines).rstrip() + "\n"


_HOW = (
    "Each is one command, which trains, attacks, and writes the table with our numbers beside the "
    "paper's; `--data_dir` says where the data lie, `--scale=0.05` makes a short try, "
    "`python launch/reproduce.py --list` says what each costs. Numbers are in per cent where they "
    "are accuracies, ours / the paper's; – is what was not measured, or not published."
)


def _equation_line(equation: Equation) -> str:
    formula = equation.formula.replace("|", "\\|")
    return f"| {equation.number} | {formula} | `{_name_of(equation.function)}` |"


def _name_of(function: Callable[..., Any]) -> str:
    """Where a function is found, by the shortest name that its module's package hands on."""
    module = inspect.getmodule(function)
    name = function.__qualname__
    assert module is not None
    for package in (losses, attacks):
        if getattr(package, name, None) is function:
            return f"{package.__name__.removeprefix('robustjax.')}.{name}"
    return f"{module.__name__}.{name}"


def _section(paper: Paper, item: Item, results: Path, link: str) -> list[str]:
    name = f"{paper.name}/{item.name}"
    folder = name.replace("/", "_")
    lines = [f"### {name}: {item.title}", "", _sentence(item.where)]
    if item.note:
        lines[-1] += f" {item.note}"
    lines.append("")
    if item.reason:
        return [*lines, f"Not to be had here: {item.reason}", ""]
    lines += ["```", f"python launch/reproduce.py --item={name}", "```", ""]
    if isinstance(item.figure, Experiment):
        return [*lines, *_made(results, folder, link)]
    table = results / folder / "table.json"
    measured = json.loads(table.read_text()) if table.exists() else {}
    cells = _cells(item, measured)
    shown = [cell for cell in cells if cell.seen or cell.published is not None]
    if measured:
        lines += [_how_measured(measured), ""]
    if shown:
        named = {cell.row for cell in shown}
        lines += [*as_in_paper(item, [cell for cell in cells if cell.row in named]), ""]
    without = [row for row in item.rows if row.training is None]
    lines += [f"* {row.name} cannot be trained here: {row.reason}" for row in without]
    if without:
        lines.append("")
    if (results / folder / "figure.png").exists():
        lines += [f"![{name}]({link}/{folder}/figure.png)", ""]
    return lines


def _made(results: Path, folder: str, link: str) -> list[str]:
    """The table and the figures of an experiment that was made."""
    page = results / folder / "table.md"
    if not page.exists():
        return []
    figures = sorted(path.name for path in (results / folder).glob("*.png"))
    pictures = [f"![{figure}]({link}/{folder}/{figure})" for figure in figures]
    return [f"Measured: [its table]({link}/{folder}/{page.name}).", "", *pictures, ""]


def _cells(item: Item, measured: Mapping[str, Any]) -> Sequence[Cell]:
    found = {(cell["row"], cell["column"]): cell for cell in measured.get("cells", ())}
    cells = []
    for row, column in item.cells():
        content = found.get((row.name, column.name), {"seeds": {}})
        seen = Cell.seen_from_json(content)
        cells.append(Cell(row.name, column.name, row.published.get(column.name), seen, item.centre))
    return cells


def _how_measured(measured: Mapping[str, Any]) -> str:
    scale, options, seeds = measured["scale"], measured["options"], measured["seeds"]
    parts = [f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"]
    if scale != 1:
        parts.append(f"**a try at scale {scale:g}**: fewer epochs and images than the paper's")
    if options:
        parts.append(f"with `{' '.join(options)}`")
    device = measured["versions"].get("device", "")
    return f"Measured: {'; '.join(parts)}; {device}."


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
