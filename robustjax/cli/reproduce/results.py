"""Writes what a table or figure came to: table.md, table.json, and the figure with its numbers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from robustjax import evaluation
from robustjax.cli import app
from robustjax.cli.start import environment_of_child
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path, write_whole
from robustjax.papers import drawing
from robustjax.papers.experiments import registry
from robustjax.papers.item import Analysis, Experiment, Item, Row
from robustjax.papers.measured import Cell, cells_of, is_trained
from robustjax.papers.planned import Networks, Request
from robustjax.papers.scale import test_images
from robustjax.papers.table import to_markdown

_PLACES = ("--data_dir=", "--devices=", "--cpu_devices=")
"""Options that say nothing of what was measured."""

_RESULTS = (".json", ".csv", ".png")
"""What of an experiment's files is a result beside its page, and not what it works with."""

_FEWEST_DRAWN = 50
"""Images that an analysis looks at, however small the scale is."""


def write(
    name: str, item: Item, rows: Sequence[Row], request: Request, folder: Path, *, draws: bool
) -> None:
    """Writes and prints the table of an item, and draws it.

    Args:
      name: of the item, as "mart/table4".
      item: the table or figure.
      rows: those of its rows that are wanted.
      request: how they were made.
      folder: of the results, which is made.
      draws: whether what computes, an experiment or an analysis of networks, is made as well.
    """
    head = [f"# {title(name, item, request)}", "", *_about(item)]
    if isinstance(item.figure, Experiment):
        if draws:
            work = request.folder / name.replace("/", "_")
            _experiment(item.figure, request, work)
            found = (work / f"{item.figure.name}.md").read_text().replace("# ", "## ", 1)
            _write_page("\n".join([*head, found]), folder)
            for path in _own_results(work) if folder != work else ():
                write_whole(folder / path.name, path.read_bytes())
        print(f"results of {name}: {folder}", file=sys.stderr)
        return
    networks = Networks(request)
    cells = cells_of(item, rows, request, networks)
    _write_page("\n".join([*head, _table(item, cells)]), folder)
    content = {
        "item": name,
        "scale": request.scale,
        "options": [one for one in request.options if not one.startswith(_PLACES)],
        "seeds": request.seeds_of(item),
        "command": app.command_line(),
        "cells": [cell.to_json() for cell in cells],
        "versions": evaluation.versions(),
    }
    write_whole(folder / "table.json", json.dumps(content, indent=2) + "\n")
    if isinstance(item.figure, Analysis):
        if draws:
            seed = request.seeds_of(item)[0]
            configs = [networks.config(row.training, seed) for row in rows if row.training]
            _analyze(item.figure, [one for one in configs if is_trained(one)], request, folder)
    else:
        drawing.draw(item, rows, cells, request, networks, folder / "figure.png")
    print(f"results of {name}: {folder}", file=sys.stderr)


def title(name: str, item: Item, request: Request) -> str:
    """The title of an item's table, which says of a shortened one that it is."""
    shortened = ""
    if request.scale != 1:
        shortened = f" — a try at scale {request.scale:g}: fewer epochs and images than the paper's"
    options = [one for one in request.options if not one.startswith(_PLACES)]
    changed = f" — with {' '.join(options)}" if options else ""
    return f"{name}: {item.title}{shortened}{changed}"


def _about(item: Item) -> list[str]:
    lines = [f"{item.where[:1].upper()}{item.where[1:]}. {item.note}".rstrip(), ""]
    for row in item.rows:
        if row.training is None:
            lines += [f"{row.name} cannot be trained: {row.reason}", ""]
    return lines


def _table(item: Item, cells: Sequence[Cell]) -> str:
    return to_markdown(item, cells) if item.columns else ""


def _write_page(page: str, folder: Path) -> None:
    print(page)
    write_whole(folder / "table.md", "\n".join([page, f"Made by `{app.command_line()}`.", ""]))


def _experiment(experiment: Experiment, request: Request, work: Path) -> None:
    """Runs an experiment with what of the training options it has among its settings.

    Args:
      experiment: which.
      request: how.
      work: the folder that it works in, with the runs that it may have.
    """
    known = set(registry.setting_names(experiment.name))
    given = [option.lstrip("-") for option in request.options]
    assignments = [text for text in given if text.partition("=")[0] in known]
    whole = registry.settings(experiment.name, experiment.settings)
    chosen = registry.settings(
        experiment.name, assignments, registry.shortened(whole, request.scale)
    )
    registry.run(experiment.name, chosen, work, lambda line: print(line, file=sys.stderr))


def _own_results(work: Path) -> list[Path]:
    """What of an experiment's folder is of the item that the folder is named after.

    Several items may have one experiment, which then draws the figures of all of them.
    """
    found = [path for path in work.iterdir() if path.suffix in _RESULTS]
    number = re.sub(r"\D", "", work.name.rpartition("_fig")[2])
    own = [path for path in found if path.stem.endswith(f"_figure_{number}")]
    return [path for path in found if not own or path.suffix != ".png" or path in own]


def _analyze(
    analysis: Analysis, trained: Sequence[TrainConfig], request: Request, folder: Path
) -> None:
    """Draws networks by launch/analyze.py."""
    if not trained:
        return
    arguments = [argument for argument in analysis.arguments if _fits(argument, request)]
    if request.scale != 1:
        given = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
        whole = int(given.get("examples", test_images(trained[0])))
        arguments.append(f"--examples={max(round(whole * request.scale), _FEWEST_DRAWN)}")
    output = folder / "figure.png"
    command = [
        sys.executable, "-P", "-m", "robustjax.cli.analyze",
        f"--workdirs={','.join(dict.fromkeys(config.workdir for config in trained))}",
        f"--checkpoint={analysis.checkpoint}", f"--output={output}", *arguments,
    ]  # fmt: skip
    if subprocess.run(command, env=environment_of_child(), check=False).returncode:
        raise UserError(f"{output} could not be drawn; what is said above says why")


def _fits(argument: str, request: Request) -> bool:
    """Whether an argument still means something: layers are those of the paper's network."""
    other_network = any(option.startswith("--model=") for option in request.options)
    return not (argument.startswith("--layer=") and other_network)
