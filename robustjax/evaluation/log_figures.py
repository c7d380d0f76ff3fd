"""Figures drawn from the logs of several runs: accuracy and loss, or backward passes, per epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.evaluation.figures import save
from robustjax.files import Path, write_whole

Rows = Sequence[Mapping[str, Any]]

PANELS = {
    "natural accuracy (%)": ("holdout_clean_accuracy", "train_clean_accuracy"),
    "robust accuracy (%)": ("holdout_robust_accuracy", "train_robust_accuracy"),
    "training loss": ("loss",),
}


def curves_of_runs(runs: Mapping[str, Rows], path: Path) -> Path:
    """Draws natural accuracy, robust accuracy and loss against the epoch, one line a run.

    Accuracies are those on the hold-out where there is one, else on training examples. The numbers
    are written beside the figure, as a .csv of the same name.

    Args:
      runs: name -> rows of metrics.jsonl.
      path: of the PNG.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    numbers = []
    for axes, (title, keys) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        for name, rows in runs.items():
            key = next(key for key in keys if rows[0][key] is not None)
            scale = 100 if key.endswith("accuracy") else 1
            numbers += _line(axes, name, rows, key, scale)
        axes.set(ylabel=title)
    return _finish(figure, path, numbers)


def backward_passes_of_runs(runs: Mapping[str, Rows], path: Path) -> Path:
    """Draws the mean number of backward passes per image against the epoch, one line a run.

    Args:
      runs: name -> rows of metrics.jsonl.
      path: of the PNG; the numbers are written beside it, as a .csv of the same name.

    Source of the form: FAT (Zhang et al., 2020), figure 5.
    """
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    numbers = []
    for name, rows in runs.items():
        numbers += _line(axes, name, rows, "mean_backward_passes", 1)
    axes.set(ylabel="backward passes per image")
    axes.set_ylim(bottom=0)
    return _finish(figure, path, numbers)


def _line(axes: Axes, name: str, rows: Rows, key: str, scale: float) -> list[tuple]:
    epochs = [row["epoch"] for row in rows]
    values = [scale * row[key] for row in rows]
    axes.plot(epochs, values, label=name, marker="." if len(epochs) < 20 else None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch")
    axes.grid(alpha=0.3)
    return [(name, key, epoch, value) for epoch, value in zip(epochs, values, strict=True)]


def _finish(figure: Figure, path: Path, numbers: Sequence[tuple]) -> Path:
    figure.axes[0].legend(fontsize="small")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("run", "figure", "epoch", "value"))
    writer.writerows(numbers)
    write_whole(path.with_suffix(".csv"), text.getvalue())
    return save(figure, path)
