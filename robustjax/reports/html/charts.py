"""Charts of a page, as plain values: templates/charts.html draws them as SVG.

Places are per cent of the width and the height of what is drawn on, so that a chart is as wide as
its column and its text keeps its size. Nothing is shown by colour alone: what a mark is worth is
written beside it, or in the chart's description.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, TypeGuard

from matplotlib.ticker import MaxNLocator

TONES = 8
"""Colours, each with its dashes, that style.css has for lines."""

_MOST_TICKS = 5
_AXIS_OF_TRACKS = (0, 25, 50, 75, 100)


@dataclasses.dataclass(frozen=True)
class Track:
    """A share on a line from 0 to 100 %.

    Attributes:
      label: what it is the share of.
      value: in words.
      share: per cent; None if there is none.
      interval: per cent, from and to; None if there is none.
      limit: per cent, beyond which it breaks a rule; None if there is no rule.
      tone: how it is coloured: "clean", "attack", "worst", or a verdict.
      bar: whether it is drawn as a bar from 0, not as a point.
    """

    label: str
    value: str
    share: float | None
    interval: tuple[float, float] | None = None
    limit: float | None = None
    tone: str = "attack"
    bar: bool = False

    @property
    def in_words(self) -> str:
        """What is drawn, for who cannot see it."""
        limit = "" if self.limit is None else f"; allowed: {self.limit:g} %"
        return f"{self.label}: {self.value}{limit}"


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Shares below each other, in groups that have a title or "".

    Attributes:
      groups: a title and its tracks.
      caption: below them; "" for none.
      compact: whether label, line and value stand beside each other where there is room.
    """

    groups: Sequence[tuple[str, Sequence[Track]]]
    caption: str = ""
    compact: bool = True
    ticks: ClassVar[Sequence[int]] = _AXIS_OF_TRACKS


class Line(NamedTuple):
    """A line of a chart, in per cent of its width and height, from the upper left corner.

    Attributes:
      name: in the legend.
      tone: which of the `TONES`.
      parts: "x,y x,y": the line, broken where a value is missing.
      dots: x and y of its points; none where they are many.
      band: "x,y x,y": a shape around it; "" for none.
    """

    name: str
    tone: int
    parts: Sequence[str]
    dots: Sequence[tuple[float, float]]
    band: str = ""


class Level(NamedTuple):
    """A straight line across a chart: from side to side, or from top to bottom."""

    name: str
    place: float
    upright: bool


@dataclasses.dataclass(frozen=True)
class Plot:
    """Lines over an axis.

    Attributes:
      title: of the chart.
      description: what it shows, in words and numbers.
      x_name: of the horizontal axis.
      y_name: of the vertical axis.
      x_ticks: place and text.
      y_ticks: place and text.
      lines: at least one.
      levels: what they are compared with.
    """

    title: str
    description: str
    x_name: str
    y_name: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    levels: Sequence[Level] = ()


class Values(NamedTuple):
    """The numbers of a line.

    Attributes:
      name: in the legend.
      points: x and y; a y that is None or not finite is a gap.
      band: from and to at each point; none for no band.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    band: Sequence[tuple[float, float]] = ()


_MOST_DOTS = 40


def plot(
    title: str,
    values: Sequence[Values],
    *,
    x_name: str,
    y_name: str,
    y_range: tuple[float, float] | None = None,
    x_ticks: Sequence[float] = (),
    linear_below: float | None = None,
    levels: Sequence[tuple[str, float, bool]] = (),
) -> Plot | None:
    """Places numbers on a chart.

    Args:
      title: of the chart.
      values: of its lines.
      x_name: of the horizontal axis.
      y_name: of the vertical axis.
      y_range: of the vertical axis; that of the numbers if not given.
      x_ticks: where the horizontal axis has numbers; chosen if none are given.
      linear_below: the horizontal axis is logarithmic above this, about linear below; None: linear.
      levels: name, value, and whether it is one of the horizontal axis.

    Returns:
      None if there is no finite number to draw.
    """
    known = [
        (x, y) for line in values for x, y in line.points if math.isfinite(x) and _is_finite(y)
    ]
    if not known:
        return None
    xs = [x for x, _ in known]
    ys = [y for _, y in known] + [y for line in values for pair in line.band for y in pair]
    low, high = y_range or _padded([y for y in ys if _is_finite(y)])
    across = _scale(min(xs), max(xs), linear_below)
    down = _scale(low, high, None)
    ticks = x_ticks or _ticks(min(xs), max(xs), whole=all(float(x).is_integer() for x in xs))

    def place(x: float, y: float) -> tuple[float, float]:
        return across(x), round(100 - down(y), 2)

    return Plot(
        title=title,
        description=f"{title}. {x_name} against {y_name}. {'. '.join(map(_in_words, values))}.",
        x_name=x_name,
        y_name=y_name,
        x_ticks=[(across(tick), f"{tick:,.4g}") for tick in ticks],
        y_ticks=[
            (round(100 - down(tick), 2), f"{tick:,.4g}") for tick in _ticks(low, high, whole=False)
        ],
        lines=[_line(line, number % TONES, place) for number, line in enumerate(values)],
        levels=[
            Level(name, across(value) if upright else place(0, value)[1], upright)
            for name, value, upright in levels
        ],
    )


def _line(values: Values, tone: int, place: Callable[[float, float], tuple[float, float]]) -> Line:
    parts: list[list[tuple[float, float]]] = [[]]
    for x, y in values.points:
        if y is None or not math.isfinite(y) or not math.isfinite(x):
            parts.append([])
        else:
            parts[-1].append(place(x, y))
    dots = [point for part in parts for point in part]
    band = ""
    if values.band:
        xs = [x for x, _ in values.points]
        upper = [place(x, high) for x, (_, high) in zip(xs, values.band, strict=True)]
        lower = [place(x, low) for x, (low, _) in zip(xs, values.band, strict=True)]
        band = _points(upper + lower[::-1])
    return Line(
        values.name,
        tone,
        [_points(part) for part in parts if len(part) > 1],
        dots if len(dots) <= _MOST_DOTS else (),
        band,
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _in_words(line: Values) -> str:
    known = [(x, y) for x, y in line.points if _is_finite(y)]
    if not known:
        return f"{line.name}: nothing"
    (first, start), (last, end) = known[0], known[-1]
    if len(known) == 1:
        return f"{line.name}: {start:.4g} at {first:.4g}"
    return f"{line.name}: from {start:.4g} at {first:.4g} to {end:.4g} at {last:.4g}"


def _scale(low: float, high: float, linear_below: float | None) -> Callable[[float], float]:
    """From a number to per cent of an axis; what lies outside is at its end."""

    def stretched(value: float) -> float:
        value = min(max(value, low), high)
        return value if linear_below is None else math.log1p((value - low) / linear_below)

    start, end = stretched(low), stretched(high)
    width = end - start
    if not 0 < width < math.inf:
        return lambda value: 50.0
    return lambda value: round(100 * (stretched(value) - start) / width, 2)


def _ticks(low: float, high: float, whole: bool) -> list[float]:
    if low == high:
        return [low]
    places = MaxNLocator(_MOST_TICKS, integer=whole).tick_values(low, high)
    return [float(tick) for tick in places if low <= tick <= high]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """A range that leaves some room above and below."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
