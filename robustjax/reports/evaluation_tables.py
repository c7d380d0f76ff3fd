"""Writes what an evaluation found: evaluation.json for programs, evaluation.md for people."""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.evaluation.summary import (
    COMMANDS,
    CURVES,
    MEASURED,
    OTHERS,
    PAIRED,
    PER_CLASS,
)
from robustjax.files import Path, write_whole
from robustjax.reports.recorded_curves import NESTED, Curve, radii_of, recorded_curves
from robustjax.reports.recorded_verdicts import Grid, recorded_grids
from robustjax.runs.evaluations import WORST_CASE, WORST_CASE_INTERVAL, WORST_CASE_SHARED
from robustjax.runs.names import EPSILON_CURVES, EVALUATION
from robustjax.text import format_value


def write_report(summary: Mapping[str, Any], workdir: Path) -> tuple[Path, Path]:
    """Writes evaluation.json and evaluation.md into a run's folder, each whole or not at all.

    Where there are curves over the radius, also their figure, figures/epsilon_curves.png, if what
    draws it is installed.
    """
    curves = recorded_curves(summary)
    if curves and importlib.util.find_spec("matplotlib"):
        from robustjax.reports.figures.radius_curves import radius_curves

        radius_curves(curves, workdir / EPSILON_CURVES)
    return (
        write_whole(workdir / EVALUATION, json.dumps(summary, indent=2) + "\n"),
        write_whole(workdir / "evaluation.md", to_markdown(summary)),
    )


def to_markdown(summary: Mapping[str, Any]) -> str:
    """A table of the accuracies, and below it everything needed to repeat it.

    What was measured of other data, in other balls, or at other checkpoints has tables of its own.
    """
    parts = [_section(summary, f"# Evaluation on {summary['examples']} examples")]
    for other in summary.get(OTHERS, ()):
        norm, epsilon = other["norm"] or "unknown norm", other["epsilon"]
        ball = norm if epsilon is None else f"{norm} {epsilon:.6g}"
        ball = ball if other["attacks"] else "no attack"
        parts.append(_section(other, f"## {ball}, {other['examples']} examples"))
    return "\n".join(parts)


def _section(summary: Mapping[str, Any], title: str) -> str:
    """The table of one subject in one ball, with its facts."""
    lines = [
        title,
        "",
        "| attack | accuracy | 95 % interval | settings |",
        "| --- | ---: | ---: | --- |",
        _row("clean", summary["clean_accuracy"], summary["interval_95"], ""),
    ]
    for name, score in summary["attacks"].items():
        settings = ", ".join(
            f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in score.items()
            if key not in MEASURED
        )
        lines.append(_row(name, score["robust_accuracy"], score["interval_95"], settings))
    if WORST_CASE in summary:
        partial = any("examples" in score for score in summary["attacks"].values())
        lines.append(
            _row(
                "worst case",
                summary[WORST_CASE],
                summary[WORST_CASE_INTERVAL],
                f"correct under every attack above{' that had all examples' if partial else ''}",
            )
        )
    shown = (
        "clean_accuracy", "interval_95", "attacks", "examples", COMMANDS, CURVES, OTHERS, PAIRED,
        PER_CLASS,
    )  # fmt: skip
    facts = {
        key: value
        for key, value in summary.items()
        if key not in shown and not key.startswith("worst_case")
    }
    if WORST_CASE_SHARED in summary:
        shared = summary[WORST_CASE_SHARED]
        said = f"correct under every attack above, on the first {shared['examples']}, which all had"
        lines.append(
            _row(
                "worst case on shared examples",
                shared["robust_accuracy"],
                shared["interval_95"],
                said,
            )
        )
    lines += [""]
    for name, score in summary["attacks"].items():
        if "after_each" in score:
            shares = (
                f"{attack} {100 * share:.2f} %" for attack, share in score["after_each"].items()
            )
            lines.append(f"* {name}, accuracy after each attack: {', '.join(shares)}")
    lines += [f"* warning: {warning}" for warning in warnings(summary)]
    lines += [f"* {key}: {_plain(value)}" for key, value in facts.items()]
    lines += [f"* command: `{command}`" for command in summary.get(COMMANDS, ())]
    lines += _curves(recorded_curves(summary))
    for grid in recorded_grids(summary):
        lines += ["", f"### {grid.title}", "", *_grid(grid)]
        lines += ["", grid.note] if grid.note else []
    return "\n".join(lines) + "\n"


def _curves(curves: Sequence[Curve]) -> list[str]:
    """The lines of the table of curves, a row a radius."""
    if not curves:
        return []
    rows = [
        [format_value(radius), *(_at(curve, radius) for curve in curves)]
        for radius in radii_of(curves)
    ]
    heads = [f"{curve.name}, {curve.norm}, {curve.examples} examples" for curve in curves]
    return [
        "",
        f"| epsilon | {' | '.join(heads)} |",
        f"| --- |{' ---: |' * len(curves)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Robust accuracy over the radius. {NESTED}",
    ]


def _grid(grid: Grid) -> list[str]:
    lines = [f"| {' | '.join(grid.head)} |", f"| --- |{' ---: |' * (len(grid.head) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in grid.rows)]


def _at(curve: Curve, radius: float) -> str:
    score = curve.scores.get(radius)
    return "" if score is None else f"{score.percent()} % ({score.percent_interval()})"


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What AutoAttack found that may make its figure misleading."""
    return [
        f"{name}: {warning}"
        for name, score in summary["attacks"].items()
        for warning in score.get("warnings", ())
    ]


def to_table(summary: Mapping[str, Any]) -> str:
    """The accuracies as aligned text for a terminal."""
    rows = [("clean", summary["clean_accuracy"], summary["interval_95"])]
    rows += [
        (name, score["robust_accuracy"], score["interval_95"])
        for name, score in summary["attacks"].items()
    ]
    if len(rows) > 2 and WORST_CASE in summary:
        rows.append(("worst case", summary[WORST_CASE], summary[WORST_CASE_INTERVAL]))
    if WORST_CASE_SHARED in summary:
        shared = summary[WORST_CASE_SHARED]
        name = f"worst case, first {shared['examples']}"
        rows.append((name, shared["robust_accuracy"], shared["interval_95"]))
    rows += [
        (f"{curve.name} at {format_value(radius)}", score.accuracy, score.interval)
        for curve in recorded_curves(summary)
        for radius, score in curve.scores.items()
        if radius > 0
    ]
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"{name:<{width}}  {100 * accuracy:6.2f} %   [{100 * low:.2f}, {100 * high:.2f}]"
        for name, accuracy, (low, high) in rows
    )


def _row(name: str, accuracy: float, interval: tuple[float, float], settings: str) -> str:
    low, high = interval
    return f"| {name} | {100 * accuracy:.2f} % | {100 * low:.2f} to {100 * high:.2f} | {settings} |"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return str(value)
