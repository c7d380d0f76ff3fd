"""The section of a report on what an evaluation found."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from robustjax.reports.figures.scores import SCALE, describe, score_bars
from robustjax.reports.html.elements import Child, command, element, figure, folded, heading, table
from robustjax.reports.html.values import columns_of_numbers, render, title
from robustjax.reports.recorded_scores import (
    WORST,
    Score,
    about,
    common_settings,
    describe_settings,
    recorded_facts,
    recorded_others,
    recorded_scores,
    recorded_warnings,
)
from robustjax.reports.repeat_commands import evaluation_command
from robustjax.runs.folder import RunFolder


def accuracy(run: RunFolder, level: int) -> Child:
    """The table of attacks, its figure, warnings, and what else the attacks recorded.

    Args:
      run: its files.
      level: of the headings.
    """
    scores = recorded_scores(run.evaluation)
    if run.evaluation is None:
        return element(
            "div",
            element("p", "Not evaluated yet: the folder has no evaluation.json. This makes it:"),
            command(evaluation_command(run)),
            class_="note",
        )
    shared = common_settings(scores)
    caption = f"Accuracy on {_examples(run)}"
    if shared:
        caption += f". All attacks: {describe_settings(shared)}"
    rows = [
        (score.name, score.percent(), score.percent_interval(), about(score, scores))
        for score in scores
    ]
    head = ("attack", "accuracy (%)", "95 % interval (%)", "settings")
    drawn = figure(
        score_bars(scores),
        alt=f"Accuracy with 95 % interval: {describe(scores)}",
        caption="Accuracy under each attack; the whiskers are the 95 % intervals.",
        scale=SCALE,
    )
    return [
        _warnings(run),
        table(
            head,
            rows,
            caption=caption,
            numbers=(1, 2),
            last_row_stands_out=scores[-1].name == WORST,
        ),
        drawn,
        [_details(score, level) for score in scores if score.details],
        [_other(run, title, content, level) for title, content in recorded_others(run.evaluation)],
    ]


def _other(run: RunFolder, name: str, content: Mapping[str, Any], level: int) -> Child:
    """What was measured of other data, in another ball, or at another checkpoint."""
    apart = accuracy(dataclasses.replace(run, evaluation=content), level + 1)
    return folded(f"Elsewhere: {name}", element("div", apart))


def _warnings(run: RunFolder) -> Child:
    found = recorded_warnings(run.evaluation)
    if not found:
        return None
    items = [
        element("li", element("strong", f"{attack}: ") if attack else None, text)
        for attack, text in found
    ]
    text = "Warnings of the evaluation, to be read before a figure is quoted:"
    return element("div", element("p", text), element("ul", items), class_="note")


def _details(score: Score, level: int) -> Child:
    """What an attack recorded beside its accuracy: of an ensemble, the accuracy after each part."""
    columns = {
        key: value
        for key, value in score.details.items()
        if isinstance(value, Mapping)
        and value
        and not any(isinstance(part, Mapping | list) for part in value.values())
    }
    after = columns.get("after_each")
    if after:
        columns = {"after_each": after, "broken_by_it": _drops(after), **columns}
    parts = []
    if columns:
        caption = f"{score.name}, part by part"
        if after:
            caption += "; an accuracy is of what is still correct after that part and all before it"
        parts.append(columns_of_numbers(columns, caption, "part"))
    parts += [
        [element("p", title(key), ":"), element("div", render(key, value))]
        for key, value in score.details.items()
        if key not in columns
    ]
    return [heading(level, score.name), *parts]


def _drops(after: Mapping[str, Any]) -> dict[str, str]:
    """How many points of accuracy each part of an ensemble took."""
    names = list(after)
    if not all(isinstance(value, int | float) for value in after.values()):
        return {}
    return {
        name: f"{100 * (after[before] - after[name]):.2f} points"
        for before, name in itertools.pairwise(names)
    }


def _examples(run: RunFolder) -> str:
    recorded = recorded_facts(run.evaluation)
    number, name = recorded.get("examples"), recorded.get("dataset")
    count = f"{number:,} examples" if isinstance(number, int) else "an unknown number of examples"
    return count + (f" of {name}" if name else "")
