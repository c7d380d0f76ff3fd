"""The sections of a report that compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.reports.figures.scores import SCALE, describe, scores_of_runs
from robustjax.reports.html.elements import Child, Markup, element, figure, heading, join, table
from robustjax.reports.html.values import title
from robustjax.reports.recorded_scores import (
    CLEAN,
    WORST,
    Lead,
    Score,
    format_setting,
    lead,
    recorded_facts,
    recorded_scores,
    recorded_warnings,
)
from robustjax.reports.repeat_commands import evaluation_command
from robustjax.runs.folder import RunFolder

BEST, TIED = "best", "≈ best"

_SAID_BY_FLAGS = ("method", "model", "precision")
_FOUND = ("accuracy", "interval_95")


def sections(runs: Sequence[RunFolder]) -> Markup:
    """The table of runs and attacks, its figure, and what differs between the runs."""
    return join(
        element("section", heading(2, "Accuracy"), _accuracy(runs), id="accuracy"),
        element(
            "section", heading(2, "What differs between the runs"), _differences(runs), id="differs"
        ),
    )


def columns_of(runs: Sequence[RunFolder]) -> dict[str, list[Score | None]]:
    """Attack -> its score for each run: clean first, then the attacks, then the worst case."""
    found = [{score.name: score for score in recorded_scores(run.evaluation)} for run in runs]
    names = dict.fromkeys(name for scores in found for name in scores)
    ordered = [CLEAN, *(name for name in names if name not in (CLEAN, WORST)), WORST]
    return {name: [scores.get(name) for scores in found] for name in ordered if name in names}


def leads_of(runs: Sequence[RunFolder]) -> dict[str, Lead]:
    """Attack -> which runs are best, or why nothing can be said."""
    data_sets = {
        str(recorded_facts(run.evaluation).get("dataset") or run.flags.get("dataset"))
        for run in runs
        if run.evaluation is not None
    }
    leads = {}
    columns = columns_of(runs)
    for name, scores in columns.items():
        leads[name] = lead(scores)
        if name == WORST:
            reason = _why_worst_cases_differ(columns, scores)
            leads[name] = Lead(frozenset(), reason) if reason else leads[name]
        if len(data_sets) > 1:
            leads[name] = Lead(frozenset(), "not compared, the data sets differ")
    return leads


def mark(found: Lead, position: int) -> str:
    """What is written beside a score: that it is best, among the best, or nothing."""
    if position not in found.leaders:
        return ""
    return BEST if len(found.leaders) == 1 else TIED


def _why_worst_cases_differ(
    columns: Mapping[str, Sequence[Score | None]], worst: Sequence[Score | None]
) -> str:
    runs = [position for position, score in enumerate(worst) if score is not None]
    for name, scores in columns.items():
        of_runs = [scores[position] for position in runs]
        if any(score is None for score in of_runs):
            return f"not compared, {name} was not run on all"
        if lead(of_runs).why_none.startswith("not compared"):
            return f"not compared, as {name} is not"
    return ""


def _accuracy(runs: Sequence[RunFolder]) -> Child:
    columns, leads = columns_of(runs), leads_of(runs)
    missing = [run for run in runs if run.evaluation is None]
    parts: list[Child] = []
    if missing:
        commands = "\n".join(evaluation_command(run) for run in missing)
        names = ", ".join(run.name for run in missing)
        text = f"Not evaluated yet: {names}. These commands do it:"
        parts.append(
            element(
                "div",
                element("p", text),
                element("pre", element("code", commands)),
                class_="note",
            )
        )
    if not columns:
        return parts
    rows = [
        [
            element("a", run.name, href=f"#run-{number}"),
            *(_cell(scores[number], mark(leads[name], number)) for name, scores in columns.items()),
        ]
        for number, run in enumerate(runs)
    ]
    caption = (
        f"Accuracy (%) of {len(runs)} runs, with 95 % intervals. “{BEST}”: higher than all other "
        f"runs by more than the intervals; “{TIED}”: its interval meets that of the highest."
    )
    parts.append(
        table(["run", *columns], rows, caption=caption, numbers=range(1, len(columns) + 1))
    )
    silent = [(name, found.why_none) for name, found in leads.items() if found.why_none]
    if silent:
        items = [element("li", element("strong", f"{name}: "), why) for name, why in silent]
        parts += [element("p", "No run is marked under:"), element("ul", items)]
    warned = [
        element("li", element("a", run.name, href=f"#run-{number}-accuracy"))
        for number, run in enumerate(runs)
        if recorded_warnings(run.evaluation)
    ]
    if warned:
        text = "The evaluations of these runs have warnings, to be read before a figure is quoted:"
        parts.append(element("div", element("p", text), element("ul", warned), class_="note"))
    every = [
        f"{run.name}: {describe(recorded_scores(run.evaluation))}"
        for run in runs
        if run.evaluation is not None
    ]
    parts.append(
        figure(
            scores_of_runs([run.name for run in runs], columns),
            alt=f"Accuracies with 95 % intervals. {'. '.join(every)}",
            caption="Accuracy under each attack; the whiskers are the 95 % intervals.",
            scale=SCALE,
        )
    )
    return parts


def _cell(score: Score | None, marked: str) -> Child:
    if score is None:
        return "–"
    badge = None
    if marked:
        badge = element("span", marked, class_=f"mark {'best' if marked == BEST else 'tied'}")
    return [badge, score.percent(), element("small", score.percent_interval())]


def _differences(runs: Sequence[RunFolder]) -> Child:
    flags = {f"--{name}": texts for name, texts in differing([run.flags for run in runs]).items()}
    evaluated = [run for run in runs if run.evaluation is not None]
    recorded = [_flat(recorded_facts(run.evaluation)) for run in evaluated]
    others = {
        title(name): texts
        for name, texts in differing(recorded).items()
        if name not in _SAID_BY_FLAGS and not name.endswith(_FOUND)
    }
    return [
        _side_by_side(runs, flags, "Flags that differ; all others are the same")
        if flags
        else element("p", "The runs have the same flags."),
        _side_by_side(evaluated, others, "What differs between the evaluations")
        if others
        else element("p", "Their evaluations differ in nothing but the accuracies."),
    ]


def _side_by_side(
    runs: Sequence[RunFolder], texts: Mapping[str, Sequence[str]], caption: str
) -> Markup:
    """What is more numerous, runs or names, goes down the page."""
    names = [run.name for run in runs]
    if len(runs) > len(texts):
        rows = [[name, *values] for name, *values in zip(names, *texts.values(), strict=True)]
        return table(["run", *texts], rows, caption=caption)
    return table(["", *names], [[name, *values] for name, values in texts.items()], caption=caption)


def differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Name -> its value in each mapping as text, for the names that are not alike in all."""
    names = dict.fromkeys(name for found in values for name in found)
    texts = {
        name: [
            (format_setting(found[name]) or "not given") if name in found else "not given"
            for found in values
        ]
        for name in names
        if name != "workdir" and not name.endswith("seconds")
    }
    return {name: found for name, found in texts.items() if len(set(found)) > 1}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        name = f"{prefix}{key}"
        flat |= _flat(part, f"{name} ") if isinstance(part, Mapping) else {name: part}
    return flat
