"""Draws the loss and the accuracy over the steps and the restarts of PGD."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.analysis.convergence import Convergence
from robustjax.files import Path, write_whole
from robustjax.reports.figures.canvas import save, write_numbers


def convergence_panels(runs: Mapping[str, Convergence], path: Path, title: str = "") -> Path:
    """Draws a row of panels for each run.

    Over the steps: the loss of every example in the first restart and their mean, and the accuracy
    that is left after one restart, two, and so on. Over the restarts, if there are several: the
    mean of the highest losses, and the accuracy.

    Args:
      runs: name of a run -> its iterates; all of as many restarts.
      path: of the PNG. Beside it are written a .csv of the means and accuracies, and a .npz with
        RUN/loss [R, K + 1, N], RUN/wrong [R, K + 1, N] and RUN/clean_wrong [N].
      title: of the figure.

    Source of the form: SENSE (Kim & Wang), figures 8 and 9.
    """
    several = any(len(found.loss) > 1 for found in runs.values())
    columns = 4 if several else 2
    figure = Figure(figsize=(3.8 * columns, 0.4 + 3.2 * len(runs)), layout="constrained")
    grid = figure.subplots(len(runs), columns, squeeze=False)
    stored: dict[str, Any] = {}
    numbers = []
    for row, (run, found) in zip(grid, runs.items(), strict=True):
        stored |= {f"{run}/{name}": value for name, value in found._asdict().items()}
        accuracy, worst = 100 * found.robust_accuracy, found.worst_loss
        numbers += [
            (run, restarts + 1, step, f"{worst[restarts, step]:.6g}", f"{value:.6g}")
            for restarts, values in enumerate(accuracy)
            for step, value in enumerate(values)
        ]
        clean = 100 * (1 - found.clean_wrong.mean())
        _losses_over_steps(row[0], found)
        _accuracy_over_steps(row[1], accuracy, clean)
        row[0].set_ylabel(f"{run}\n{row[0].get_ylabel()}")
        if several:
            _over_restarts(row[2], worst[:, -1], "mean of the highest losses")
            _over_restarts(row[3], accuracy[:, -1], "robust accuracy (%)")
        for axes in row:
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title, fontsize="medium", wrap=True)
    write_numbers(path, ("run", "restarts", "step", "highest_loss", "robust_accuracy"), numbers)
    content = io.BytesIO()
    np.savez_compressed(content, **stored)
    write_whole(path.with_suffix(".npz"), content.getvalue())
    return save(figure, path)


def _losses_over_steps(axes: Axes, found: Convergence) -> None:
    steps = np.arange(found.loss.shape[1])
    axes.plot(steps, found.loss[0], color="tab:gray", linewidth=0.5, alpha=0.5)
    axes.plot(steps, found.loss[0].mean(axis=1), color="tab:red", label="mean")
    axes.set(xlabel="step", ylabel="loss of each example, first restart")
    axes.legend(fontsize="small")


def _accuracy_over_steps(axes: Axes, accuracy: np.ndarray, clean: float) -> None:
    restarts = len(accuracy)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, restarts))
    axes.axhline(clean, color="black", linestyle=":", linewidth=1, label="clean")
    for number, (values, colour) in enumerate(zip(accuracy, colours, strict=True), 1):
        plural = "s" if number > 1 else ""
        named = number in (1, restarts)
        label = f"{number} restart{plural}" if named else None
        axes.plot(values, color=colour, label=label)
    axes.set(xlabel="step", ylabel="robust accuracy (%)", ylim=(0, 100))
    axes.legend(fontsize="small")


def _over_restarts(axes: Axes, values: np.ndarray, label: str) -> None:
    axes.plot(np.arange(1, len(values) + 1), values, marker=".")
    axes.set(xlabel="restarts", ylabel=label)
