"""Robust accuracy over the radius of the ball."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from robustjax.files import Path
from robustjax.reports.figures.canvas import save
from robustjax.reports.recorded_curves import Curve, radii_of
from robustjax.text import format_value

_MOST_TICKS = 12
_MARKERS = "osD^vPX*<>"


def radius_curves(curves: Sequence[Curve], path: Path) -> Path:
    """Draws each curve with its 95 % intervals.

    Args:
      curves: at least one.
      path: of the PNG to write; its folder is made.
    """
    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        radii = list(curve.scores)
        found = list(curve.scores.values())
        colour = f"C{number % 10}"
        axes.plot(
            radii,
            [100 * (score.accuracy or 0) for score in found],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4.5,
            color=colour,
            label=curve.name,
        )
        intervals = [score.interval or (score.accuracy or 0,) * 2 for score in found]
        low, high = ([100 * interval[side] for interval in intervals] for side in (0, 1))
        axes.fill_between(radii, low, high, color=colour, alpha=0.15, linewidth=0)
    every = radii_of(curves)
    if len(every) <= _MOST_TICKS:
        axes.set_xticks(every, [format_value(radius) for radius in every])
    norms = ", ".join(dict.fromkeys(curve.norm for curve in curves))
    axes.set_xlabel(f"epsilon ({norms})", parse_math=False)
    axes.set_ylabel("robust accuracy (%)")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for text in axes.legend(fontsize=9, frameon=False).get_texts():
        text.set_parse_math(False)
    return save(figure, path)
