"""The table of a report in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustjax.reports.compared_columns import BEST, columns_of, leads_of, mark
from robustjax.reports.compared_verdicts import paired_runs
from robustjax.reports.recorded_curves import NESTED, Curve, radii_of, recorded_curves
from robustjax.reports.recorded_scores import (
    Score,
    about,
    common_settings,
    describe_settings,
    recorded_commands,
    recorded_facts,
    recorded_others,
    recorded_scores,
    recorded_warnings,
)
from robustjax.reports.recorded_verdicts import Grid, recorded_grids
from robustjax.reports.repeat_commands import first_evaluation_command
from robustjax.runs.folder import RunFolder
from robustjax.text import format_value

FIRST_LINE = "<!-- made by launch/report.py -->"
"""By this a report knows the file that it may write again."""


def of_run(run: RunFolder, title: str) -> str:
    """One run's accuracies."""
    lines = [FIRST_LINE, "", f"# {_text(title)}", ""]
    if run.evaluation is None:
        return "\n".join([*lines, *_not_evaluated([run])])
    lines += accuracies(run.evaluation)
    for name, content in recorded_others(run.evaluation):
        lines += ["", f"## Elsewhere: {_text(name)}", "", *accuracies(content)]
    commands = recorded_commands(run.evaluation)
    return "\n".join([*lines, "", *(["Made by", "", *_code(commands)] if commands else [])])


def accuracies(evaluation: Mapping[str, Any]) -> list[str]:
    """The table of an evaluation, and what is to be known of it."""
    scores = recorded_scores(evaluation)
    shared = common_settings(scores)
    lines = [
        "| attack | accuracy (%) | 95 % interval (%) | settings |",
        "| --- | ---: | ---: | --- |",
    ]
    for score in scores:
        cells = (score.name, score.percent(), score.percent_interval(), about(score, scores))
        lines.append(f"| {' | '.join(map(_text, cells))} |")
    lines.append("")
    lines += _curves(recorded_curves(evaluation))
    for grid in recorded_grids(evaluation):
        lines += _grid(grid)
    if shared:
        lines.append(f"* All attacks: {_text(describe_settings(shared))}")
    facts = recorded_facts(evaluation)
    lines.append(f"* Examples: {_text(facts.get('examples', 'not recorded'))}")
    lines += [
        f"* Warning{_text(f' of {attack}' if attack else '')}: {_text(text)}"
        for attack, text in recorded_warnings(evaluation)
    ]
    return lines


def _grid(grid: Grid) -> list[str]:
    lines = [
        f"{_text(grid.title)}:",
        "",
        f"| {' | '.join(map(_text, grid.head))} |",
        f"| --- |{' ---: |' * (len(grid.head) - 1)}",
        *(f"| {' | '.join(map(_text, row))} |" for row in grid.rows),
        "",
    ]
    return [*lines, _text(grid.note), ""] if grid.note else lines


def _curves(curves: Sequence[Curve]) -> list[str]:
    """The table of attacks over the radius."""
    if not curves:
        return []
    heads = [f"{curve.name}, {curve.norm}, {curve.examples} examples" for curve in curves]
    lines = [
        f"| {' | '.join(map(_text, ['epsilon', *heads]))} |",
        f"| --- |{' ---: |' * len(curves)}",
    ]
    for radius in radii_of(curves):
        cells = [_cell(curve.scores.get(radius), "") for curve in curves]
        lines.append(f"| {' | '.join([_text(format_value(radius)), *cells])} |")
    return [*lines, "", NESTED, ""]


def of_runs(runs: Sequence[RunFolder], title: str) -> str:
    """Runs beside each other."""
    lines = [FIRST_LINE, "", f"# {_text(title)}", ""]
    columns = columns_of(runs)
    leads = leads_of(columns)
    if columns:
        lines += [
            f"| {' | '.join(map(_text, ['run', *columns]))} |",
            f"| --- |{' ---: |' * len(columns)}",
        ]
        for number, run in enumerate(runs):
            cells = [
                _cell(scores[number], mark(leads[name], number)) for name, scores in columns.items()
            ]
            lines.append(f"| {' | '.join([_text(run.name), *cells])} |")
        lines += [
            "",
            "Accuracy in per cent with its 95 % interval. Bold: higher than every other run by "
            "more than the intervals. †: among the best, whose intervals meet.",
            "",
            *(f"* {_text(name)}: {_text(found.why_none)}"
              for name, found in leads.items() if found.why_none),
        ]  # fmt: skip
        pairs = paired_runs(runs, columns)
        lines += ["", *_grid(pairs)] if pairs else []
    missing = [run for run in runs if run.evaluation is None]
    return "\n".join([*lines, "", *(_not_evaluated(missing) if missing else [])]).rstrip() + "\n"


def _cell(score: Score | None, marked: str) -> str:
    if score is None:
        return "–"
    shown = (
        f"**{score.percent()}**" if marked == BEST else score.percent() + ("†" if marked else "")
    )
    return f"{shown} ({score.percent_interval()})"


def _not_evaluated(runs: Sequence[RunFolder]) -> list[str]:
    names = ", ".join(_text(run.name) for run in runs)
    return [f"Not evaluated yet: {names}.", "", *_code(map(first_evaluation_command, runs))]


def _code(lines: Iterable[str]) -> list[str]:
    code, fence = "\n".join(lines), "```"
    while fence in code:
        fence += "`"
    return [fence, code, fence, ""]


def _text(value: object) -> str:
    """Text that stays in its cell and is no markup."""
    line = re.sub(r"\s+", " ", str(value)).encode(errors="replace").decode()
    return re.sub(r"([\\|*`<&\[])", r"\\\1", line)
