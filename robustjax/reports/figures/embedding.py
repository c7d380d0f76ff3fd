"""Draws the features of clean, adversarial and friendly examples in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robustjax.analysis.embedding import Embedding
from robustjax.files import Path
from robustjax.reports.figures.canvas import save, write_numbers

MARKERS = "o^sDvP*X<>"


def embedding_panels(
    runs: Mapping[str, Embedding],
    labels: np.ndarray,
    class_names: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Draws a row for each run and a panel for each set of examples.

    Args:
      runs: name of a run -> its embedding, all of the same sets.
      labels: int [N], of the examples of a set.
      class_names: the name of each label.
      path: of the PNG; the points are written beside it, as a .csv of the same name.
      title: of the figure.

    Source of the form: FAT (Zhang et al., 2020), figures 3, 11 and 12.
    """
    sets = list(next(iter(runs.values())).points)
    figure = Figure(figsize=(4.1 * len(sets), 0.7 + 3.8 * len(runs)), layout="constrained")
    grid = figure.subplots(len(runs), len(sets), squeeze=False)
    classes = np.unique(labels)
    numbers = []
    for row, (run, embedding) in zip(grid, runs.items(), strict=True):
        limits = _limits(np.concatenate(list(embedding.points.values())))
        for axes, name in zip(row, sets, strict=True):
            points = embedding.points[name]
            for label, style in zip(classes, _styles(len(classes)), strict=True):
                own = points[labels == label]
                axes.scatter(*own.T, s=14, alpha=0.55, linewidths=0, **style)
            axes.set(xlim=limits[0], ylim=limits[1])
            axes.set_title(
                f"{name}\n{100 * embedding.crossed[name]:.1f} % of nearest clean examples are of "
                "another class",
                fontsize="small",
            )
            numbers += [
                (run, name, position, label, f"{x:.6g}", f"{y:.6g}")
                for position, (label, (x, y)) in enumerate(zip(labels, points, strict=True))
            ]
            if embedding.explained is not None:
                first, second = (f"{100 * share:.0f} %" for share in embedding.explained)
                axes.set_xlabel(f"first component ({first} of the variance)", fontsize="small")
                axes.set_ylabel(f"second component ({second})", fontsize="small")
            axes.grid(alpha=0.3)
        if len(runs) > 1:
            row[0].set_ylabel(f"{run}\n{row[0].get_ylabel()}", fontsize="small")
    handles = [
        Line2D([], [], linestyle="", label=class_names[label], **style)
        for label, style in zip(classes, _styles(len(classes)), strict=True)
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(10, len(handles)), fontsize="small"
    )
    figure.suptitle(title, fontsize="medium", wrap=True)
    write_numbers(path, ("run", "set", "example", "label", "x", "y"), numbers)
    return save(figure, path)


def _styles(count: int) -> list[dict[str, Any]]:
    return [
        {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)]}
        for number in range(count)
    ]


def _limits(points: np.ndarray) -> np.ndarray:
    """Limits [2, 2] of both axes that hold all points with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.05 * np.maximum(high - low, 1e-6)
    return np.stack([low - margin, high + margin], axis=1)
