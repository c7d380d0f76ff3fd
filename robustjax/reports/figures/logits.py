"""Histograms of logits: all of them, the true class's, the largest other one, and their gap."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from robustjax.analysis.model_statistics import LogitStatistics
from robustjax.files import Path
from robustjax.reports.figures.canvas import save, write_numbers
from robustjax.reports.figures.histograms import (
    draw_histogram,
    histogram_rows,
    shared_edges,
    shares,
)
from robustjax.reports.figures.probabilities import Pairs

BINS = 60

COLOURS = {"clean": "tab:blue", "adversarial": "tab:orange"}

PANELS = {
    "all": "all logits",
    "true": "logit of the true class",
    "largest wrong": "largest logit of another class",
    "gap": "gap between the two",
}


def logit_histograms(runs: Pairs, path: Path, title: str = "") -> Path:
    """Draws the distributions of logits on clean and adversarial images, a row for each run.

    Each row has a scale of its own, as regularised logits can be smaller by an order of magnitude;
    the variance in each panel compares the runs.

    Args:
      runs: what to draw.
      path: of the PNG; the bins are written beside it, as a .csv of the same name.
      title: of the figure.

    Source of the form: LRM (Summers & Dinneen, 2019), figures 1 (left) and 2 (right); the variance
      of the logits is in section 3.
    """
    height = 0.4 + 2.7 * len(runs)
    figure = Figure(figsize=(14, height), layout="constrained")
    grid = figure.subplots(len(runs), len(PANELS), squeeze=False)
    numbers = []
    for row, (run, pair) in zip(grid, runs.items(), strict=True):
        parts = dict(zip(COLOURS, pair, strict=True))
        common = shared_edges(*(part.logits for part in pair), bins=BINS)
        for axes, (panel, label) in zip(row, PANELS.items(), strict=True):
            drawn = {part: values_of(panel, found) for part, found in parts.items()}
            edges = shared_edges(*drawn.values(), bins=BINS) if panel == "gap" else common
            for part, values in drawn.items():
                heights = shares(values, edges)
                name = f"{part}, variance {np.var(values, dtype=np.float64):.3g}"
                draw_histogram(axes, heights, edges, label=name, color=COLOURS[part])
                numbers += histogram_rows((run, part, panel), heights, edges)
            if panel == "gap":
                axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
            axes.set(xlabel=label)
            axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
            axes.legend(fontsize="x-small", loc="upper right")
            axes.grid(alpha=0.3)
        row[0].set_ylabel(f"{run}\nshare (%)")
    figure.suptitle(title, fontsize="medium", wrap=True)
    write_numbers(path, ("run", "images", "quantity", "left", "right", "share"), numbers)
    return save(figure, path)


def values_of(panel: str, found: LogitStatistics) -> np.ndarray:
    """The values whose histogram a panel shows: [N], or [N · K] for all logits."""
    return {
        "all": found.logits.ravel(),
        "true": found.true_logit,
        "largest wrong": found.wrong_logit,
        "gap": found.gap,
    }[panel]
