"""Figures drawn from the logs of runs: accuracy and loss, or backward passes, per epoch."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.reports.figures.canvas import add_legend, add_title, line_style, save, write_numbers

Rows = Sequence[Mapping[str, Any]]


class LoggedRun(NamedTuple):
    """A run's log.

    Attributes:
      workdir: its folder, for messages.
      rows: of its metrics.jsonl.
    """

    workdir: Path
    rows: Rows


Lines = Mapping[str, Sequence[LoggedRun]]
"""Name of a line -> the runs that it is the median of: one, or one for each seed."""

PANELS = {
    "natural accuracy (%)": "clean_accuracy",
    "robust accuracy (%)": "robust_accuracy",
    "training loss": "loss",
}

BACKWARD_PASSES = "mean_backward_passes"


def curves_of_runs(lines: Lines, path: Path, title: str = "") -> Path:
    """Draws natural accuracy, robust accuracy and loss against the epoch.

    Accuracies are those on the hold-out if every run has one, else on training examples. The
    numbers are written beside the figure, as a .csv of the same name.

    Args:
      lines: what to draw; of several seeds, the median and the sample standard deviation.
      path: of the PNG.
      title: of the figure.

    Raises:
      ValueError: a log lacks an epoch or a figure; the message names the folder.
    """
    every = [run for runs in lines.values() for run in runs]
    part = "holdout" if all(_has_holdout(run) for run in every) else "train"
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    numbers = []
    for axes, (label, key) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        if key.endswith("accuracy"):
            key, where = f"{part}_{key}", "hold-out" if part == "holdout" else "training examples"
            label = f"{label} on {'the ' if part == 'holdout' else ''}{where}"
        numbers += _draw(axes, lines, key)
        axes.set(ylabel=label)
    return _finish(figure, lines, path, title, numbers)


def quantities_of_runs(lines: Lines, keys: Sequence[str], path: Path, title: str = "") -> Path:
    """Draws any keys of the logs against the epoch, a panel each.

    Args:
      lines: as for `curves_of_runs`.
      keys: of metrics.jsonl; those that a log lacks, as of a hold-out that there is not, are drawn
        from the training examples.
      path: of the PNG; the numbers are written beside it, as a .csv of the same name.
      title: of the figure.

    Raises:
      ValueError: a log lacks an epoch or a figure; the message names the folder.
    """
    every = [run for runs in lines.values() for run in runs]
    figure = Figure(figsize=(4.4 * len(keys), 3.6), layout="constrained")
    numbers = []
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        if key.startswith("holdout") and not all(_has_holdout(run) for run in every):
            key = key.replace("holdout", "train", 1)
        numbers += _draw(axes, lines, key)
        unit = " (%)" if key.endswith("accuracy") else ""
        axes.set(ylabel=key.replace("_", " ") + unit)
    return _finish(figure, lines, path, title, numbers)


def backward_passes_of_runs(lines: Lines, path: Path, title: str = "") -> Path:
    """Draws the mean number of backward passes per image against the epoch.

    Args:
      lines: as for `curves_of_runs`.
      path: of the PNG; the numbers are written beside it, as a .csv of the same name.
      title: of the figure.

    Raises:
      ValueError: a log lacks an epoch or a figure; the message names the folder.

    Source of the form: FAT (Zhang et al., 2020), figure 5.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers = _draw(axes, lines, BACKWARD_PASSES)
    axes.set(ylabel="backward passes per image")
    axes.set_ylim(bottom=0)
    return _finish(figure, lines, path, title, numbers)


def _has_holdout(run: LoggedRun) -> bool:
    return all(row.get("holdout_robust_accuracy") is not None for row in run.rows)


def _draw(axes: Axes, lines: Lines, key: str) -> list[tuple]:
    """Draws one figure of the logs, a line for each name; gives what is drawn."""
    scale = 100 if key.endswith("accuracy") else 1
    numbers = []
    for number, (name, runs) in enumerate(lines.items()):
        by_epoch = _by_epoch(runs, key)
        epochs = list(by_epoch)
        centres = [scale * statistics.median(values) for values in by_epoch.values()]
        deviations = [
            scale * statistics.stdev(values) if len(values) > 1 else 0.0
            for values in by_epoch.values()
        ]
        style = line_style(number)
        axes.plot(epochs, centres, label=name, marker="." if len(epochs) < 20 else None, **style)
        if any(deviations):
            below = [centre - size for centre, size in zip(centres, deviations, strict=True)]
            above = [centre + size for centre, size in zip(centres, deviations, strict=True)]
            axes.fill_between(epochs, below, above, color=style["color"], alpha=0.15, linewidth=0)
        numbers += [(name, key, *point) for point in zip(epochs, centres, deviations, strict=True)]
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="epoch")
    axes.grid(alpha=0.3)
    return numbers


def _by_epoch(runs: Sequence[LoggedRun], key: str) -> dict[int, list[float]]:
    """Epoch -> a value for each run, for the epochs that all of them have."""
    tables = []
    for run in runs:
        if not run.rows:
            raise UserError(f"{run.workdir}: its metrics.jsonl has no complete epoch")
        for row in run.rows:
            if row.get(key) is None:
                raise UserError(
                    f"{run.workdir}: epoch {row['epoch']} in its metrics.jsonl has no {key!r}"
                )
        tables.append({row["epoch"]: row[key] for row in run.rows})
    common = [epoch for epoch in tables[0] if all(epoch in table for table in tables)]
    if not common:
        raise UserError(f"{runs[0].workdir} and the other seeds have no epoch in common")
    return {epoch: [table[epoch] for table in tables] for epoch in common}


def _finish(figure: Figure, lines: Lines, path: Path, title: str, numbers: Sequence[tuple]) -> Path:
    add_legend(figure, len(lines))
    add_title(figure, title)
    write_numbers(path, ("run", "figure", "epoch", "value", "deviation"), numbers)
    return save(figure, path)
