"""Histograms of the probability of the true class: clean, adversarial, and what is lost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from robustjax.analysis.model_statistics import LogitStatistics
from robustjax.files import Path
from robustjax.reports.figures.canvas import add_legend, line_style, save, write_numbers
from robustjax.reports.figures.histograms import draw_histogram, histogram_rows, shares

Pairs = Mapping[str, tuple[LogitStatistics, LogitStatistics]]
"""Name of a run -> what its network says of the clean and of the adversarial images."""

BINS = 40

PANELS = {
    "clean": "$p_y(x)$, clean",
    "adversarial": r"$p_y(\hat{x})$, adversarial",
    "difference": r"$p_y(x) - p_y(\hat{x})$",
}


def probability_histograms(runs: Pairs, path: Path, title: str = "") -> Path:
    """Draws the distributions of the softmax probability of the true class.

    Args:
      runs: one outline each in every panel.
      path: of the PNG; the bins are written beside it, as a .csv of the same name. Examples without
        a probability are in no bin: the title says how many, and a row "nan" what share.
      title: of the figure.

    Source of the form: NAP (Chandna & Kutlesa, 2021), figures 2 and 3.
    """
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    numbers, without = [], []
    for axes, (panel, label) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        low = -1.0 if panel == "difference" else 0.0
        edges = np.linspace(low, 1, BINS + 1)
        for number, (run, pair) in enumerate(runs.items()):
            values = values_of(panel, *pair)
            heights, missing = shares(values, edges), int(np.isnan(values).sum())
            draw_histogram(axes, heights, edges, label=run, **line_style(number))
            numbers += histogram_rows((run, panel), heights, edges)
            if missing:
                without.append(f"{run}, {panel}: {missing} of {len(values)}")
                numbers.append((run, panel, "nan", "nan", f"{100 * missing / len(values):.6g}"))
        axes.set(xlabel=label, ylabel="share of the examples (%)", xlim=(low, 1))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    add_legend(figure, len(runs))
    if without:
        title = f"{title}\nwithout the examples whose probability is NaN ({'; '.join(without)})"
    figure.suptitle(title, fontsize="medium", wrap=True)
    write_numbers(path, ("run", "quantity", "left", "right", "share"), numbers)
    return save(figure, path)


def values_of(panel: str, clean: LogitStatistics, adversarial: LogitStatistics) -> np.ndarray:
    """The values [N] whose histogram a panel shows."""
    return {
        "clean": clean.probability,
        "adversarial": adversarial.probability,
        "difference": clean.probability - adversarial.probability,
    }[panel]
