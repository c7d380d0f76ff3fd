"""The section of a report on what an evaluation found."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.reports.html.charts import Plot, Track, Tracks, Values, plot
from robustjax.reports.html.elements import Accuracy, Remark, Table, Value
from robustjax.reports.html.values import columns_of_numbers, render, title
from robustjax.reports.recorded_curves import NESTED, Curve, radii_of, recorded_curves
from robustjax.reports.recorded_scores import (
    CLEAN,
    WORST,
    WORST_SHARED,
    Score,
    about,
    common_settings,
    describe_settings,
    recorded_facts,
    recorded_others,
    recorded_scores,
    recorded_warnings,
)
from robustjax.reports.recorded_verdicts import recorded_grids
from robustjax.text import format_value


def accuracy(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The table of attacks, its figure, warnings, and what else the attacks recorded.

    Args:
      evaluation: content of an evaluation.json, or of one of its "others".
    """
    scores = recorded_scores(evaluation)
    shared = common_settings(scores)
    caption = f"Accuracy on {_examples(evaluation)}"
    if shared:
        caption += f". All attacks: {describe_settings(shared)}"
    rows = [
        (score.name, score.percent(), score.percent_interval(), about(score, scores))
        for score in scores
    ]
    in_total = scores[-1].name in (WORST, WORST_SHARED)
    head = ("attack", "accuracy (%)", "95 % interval (%)", "settings")
    return {
        "warnings": [Remark(*warning) for warning in recorded_warnings(evaluation)],
        "table": Table(head, rows, caption, (1, 2), ends_in_total=in_total),
        "chart": Tracks(
            [("", [accuracy_track(score.name, score, bar=True) for score in scores])],
            caption="Accuracy under each attack, from 0 to 100 %, with its 95 % interval.",
        ),
        "curves": _curves(evaluation),
        "verdicts": [
            (
                grid.title,
                Table(
                    grid.head,
                    grid.rows,
                    f"{grid.title}. {grid.note}".strip(),
                    range(1, len(grid.head)),
                ),
            )
            for grid in recorded_grids(evaluation)
        ],
        "details": [(score.name, _details(score)) for score in scores if score.details],
        # Of other data, in another ball, or at another checkpoint.
        "others": [(name, accuracy(content)) for name, content in recorded_others(evaluation)],
    }


def _curves(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table of attacks over the radius, and its chart; None if there is none."""
    curves = recorded_curves(evaluation)
    if not curves:
        return None
    rows: list[list[Value]] = []
    for radius in radii_of(curves):
        found = [curve.scores.get(radius) for curve in curves]
        cells = ["–" if one is None else Accuracy(one.percent(), one.percent_interval())
                 for one in found]  # fmt: skip
        rows.append([format_value(radius), *cells])
    heads = [f"{curve.name}, {curve.norm}, {curve.examples} examples" for curve in curves]
    caption = f"Robust accuracy (%) over the radius, with 95 % intervals. {NESTED}"
    return {
        "table": Table(["epsilon", *heads], rows, caption, range(1, len(curves) + 1)),
        "chart": _chart(curves),
    }


def _chart(curves: Sequence[Curve]) -> Plot | None:
    """Robust accuracy over the radius, each curve in the band of its 95 % intervals."""
    lines = []
    for curve in curves:
        known = [(radius, one) for radius, one in curve.scores.items() if one.accuracy is not None]
        intervals = [one.interval for _, one in known if one.interval is not None]
        band = [(100 * low, 100 * high) for low, high in intervals]
        lines.append(
            Values(
                curve.name,
                [(radius, 100 * (one.accuracy or 0)) for radius, one in known],
                band if len(band) == len(known) else (),
            )
        )
    norms = ", ".join(dict.fromkeys(curve.norm for curve in curves))
    return plot(
        "Robust accuracy over the radius of the ball",
        lines,
        x_name=f"epsilon ({norms})",
        y_name="robust accuracy (%)",
        y_range=(0, 100),
    )


def accuracy_track(label: str, score: Score, *, bar: bool = False) -> Track:
    """A score on a line from 0 to 100 %.

    Args:
      label: beside it.
      score: the accuracy and its interval.
      bar: whether it is drawn as a bar.
    """
    value = "no accuracy" if score.accuracy is None else f"{score.percent()} %"
    between = score.interval
    if between is not None:
        value += f" ({100 * between[0]:.1f} to {100 * between[1]:.1f})"
    return Track(
        label=label,
        value=value,
        share=None if score.accuracy is None else 100 * score.accuracy,
        interval=None if between is None else (100 * between[0], 100 * between[1]),
        tone={CLEAN: "clean", WORST: "worst", WORST_SHARED: "worst"}.get(score.name, "attack"),
        bar=bar,
    )


def _details(score: Score) -> list[tuple[str | None, Value]]:
    """What an attack recorded beside its accuracy: of an ensemble, the accuracy after each part."""
    columns = {
        key: value
        for key, value in score.details.items()
        if isinstance(value, Mapping)
        and value
        and not any(isinstance(part, Mapping | list) for part in value.values())
    }
    rest: list[tuple[str | None, Value]] = [
        (title(key), render(key, value))
        for key, value in score.details.items()
        if key not in columns
    ]
    if not columns:
        return rest
    caption = f"{score.name}, part by part"
    after = columns.get("after_each")
    if after:
        columns = {"after_each": after, "broken_by_it": _drops(after), **columns}
        caption += "; an accuracy is of what is still correct after that part and all before it"
    return [(None, columns_of_numbers(columns, caption, "part")), *rest]


def _drops(after: Mapping[str, Any]) -> dict[str, str]:
    """How many points of accuracy each part of an ensemble took."""
    names = list(after)
    if not all(isinstance(value, int | float) for value in after.values()):
        return {}
    return {
        name: f"{100 * (after[before] - after[name]):.2f} points"
        for before, name in itertools.pairwise(names)
    }


def _examples(evaluation: Mapping[str, Any]) -> str:
    recorded = recorded_facts(evaluation)
    number, name = recorded.get("examples"), recorded.get("dataset")
    count = f"{number:,} examples" if isinstance(number, int) else "an unknown number of examples"
    return count + (f" of {name}" if name else "")
