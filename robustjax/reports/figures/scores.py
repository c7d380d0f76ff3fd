"""Figures of recorded accuracies with their 95 % intervals, as PNGs in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robustjax.reports.recorded_scores import CLEAN, WORST, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCALE = 2
"""Pixels for one of the page: sharp on dense screens and on paper."""

_INCH = 96
_CLEAN, _ATTACK, _WORST = "#7f8794", "#2f7bbf", "#c8502d"
_MARKERS = "osD^vPX*<>"
_COLOURS = ("#2f7bbf", "#3a9152", "#8a5fb0", "#b8860b", "#1aa0a0", "#b0477f", "#6b7f2a", "#5b6ee1")


def score_bars(scores: Sequence[Score]) -> bytes:
    """One run's accuracies as horizontal bars with their intervals.

    Args:
      scores: at least one; those without an accuracy have no bar.
    """
    figure = _figure(6.2, 0.75 + 0.36 * len(scores))
    axes = figure.subplots()
    for place, score in enumerate(scores):
        if score.accuracy is None:
            continue
        axes.barh(place, 100 * score.accuracy, 0.66, color=_colour(score.name))
        if score.interval is not None:
            axes.errorbar(
                100 * score.accuracy,
                place,
                xerr=_reach(score.accuracy, score.interval),
                color="#222222",
                capsize=3,
                lw=1.1,
            )
        end = score.accuracy if score.interval is None else score.interval[1]
        text = f"{100 * score.accuracy:.1f}"
        axes.annotate(
            text, (100 * end, place), (5, 0), textcoords="offset points", va="center", fontsize=9
        )
    _name_rows(axes, [score.name for score in scores])
    axes.set_xlim(0, 112)
    return _png(figure)


def scores_of_runs(names: Sequence[str], columns: Mapping[str, Sequence[Score | None]]) -> bytes:
    """Several runs' accuracies as points with their intervals, a row of points for each run.

    Args:
      names: of the runs.
      columns: attack -> its score for each run, None where there is none.
    """
    height = max(0.36, 0.11 * len(columns) + 0.12)
    figure = _figure(7.4, 1.25 + height * len(names))
    axes = figure.subplots()
    handles: list[Any] = []
    for number, (attack, scores) in enumerate(columns.items()):
        shift = 0.72 * ((number + 0.5) / len(columns) - 0.5)
        there = [
            (place, score.accuracy, score.interval)
            for place, score in enumerate(scores)
            if score is not None and score.accuracy is not None
        ]
        style: dict[str, Any] = {
            "color": {CLEAN: _CLEAN, WORST: _WORST}.get(attack, _COLOURS[number % len(_COLOURS)]),
            "marker": _MARKERS[number % len(_MARKERS)],
        }
        reaches = [_reach(accuracy, interval) for _, accuracy, interval in there]
        handles.append(
            axes.errorbar(
                [100 * accuracy for _, accuracy, _ in there],
                [place + shift for place, _, _ in there],
                xerr=[[reach[side][0] for reach in reaches] for side in (0, 1)],
                linestyle="",
                markersize=5,
                capsize=2.5,
                lw=1.1,
                **style,
            )
        )
    for place in range(len(names) - 1):
        axes.axhline(place + 0.5, color="#d5d9e0", lw=0.8)
    _name_rows(axes, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    legend = figure.legend(
        handles, list(columns), loc="outside upper center", ncols=5, fontsize=9, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _png(figure)


def describe(scores: Sequence[Score]) -> str:
    """What a figure of scores shows, in words."""
    return "; ".join(
        f"{score.name} {score.percent()} % ({score.percent_interval()})" for score in scores
    )


def _figure(width: float, height: float) -> Figure:
    # Imported here: a report in Markdown has only the words of `describe`.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _colour(name: str) -> str:
    return {CLEAN: _CLEAN, WORST: _WORST}.get(name, _ATTACK)


def _reach(
    accuracy: float, interval: tuple[float, float] | None
) -> tuple[list[float], list[float]]:
    """How far the interval reaches below and above the accuracy, in per cent."""
    low, high = interval or (accuracy, accuracy)
    below, above = accuracy - low, high - accuracy
    return [100 * max(below, 0.0)], [100 * max(above, 0.0)]


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    # A name is no formula, whatever dollar signs it has.
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_INCH * SCALE)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
