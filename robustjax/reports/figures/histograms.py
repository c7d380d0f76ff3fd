"""Histograms as shares of the examples, drawn as outlines so that several lie over each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from robustjax.errors import UserError


def shared_edges(*values: np.ndarray, bins: int) -> np.ndarray:
    """Edges [bins + 1] of equal bins that hold all values; never of width 0.

    Raises:
      ValueError: a value is not finite.
    """
    low = min(float(part.min()) for part in values)
    high = max(float(part.max()) for part in values)
    if not np.isfinite([low, high]).all():
        raise UserError("some values are not finite, so that there is no histogram of them")
    margin = 0.5 * (low == high)
    return np.linspace(low - margin, high + margin, bins + 1)


def shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Per cent of the values in each bin; the last bin holds its right edge.

    Args:
      values: any number of them.
      edges: [M + 1], increasing. Values beyond them are in no bin.

    Returns:
      float64 [M].
    """
    counts, _ = np.histogram(values, edges)
    return 100 * counts / np.size(values)


def draw_histogram(axes: Axes, heights: np.ndarray, edges: np.ndarray, **style: Any) -> None:
    """Draws heights [M] over edges [M + 1] as an outline with a faint body."""
    axes.stairs(heights, edges, linewidth=1.3, **style)
    axes.stairs(heights, edges, fill=True, alpha=0.12, color=style.get("color"))


def histogram_rows(head: tuple, heights: np.ndarray, edges: np.ndarray) -> list[tuple]:
    """The bins as rows of a table: `head`, left edge, right edge, share in per cent."""
    return [
        (*head, f"{left:.6g}", f"{right:.6g}", f"{height:.6g}")
        for left, right, height in zip(edges, edges[1:], heights, strict=False)
    ]
