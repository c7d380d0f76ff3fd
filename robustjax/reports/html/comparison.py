"""The sections of a report that compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.reports.compared_columns import BEST, TIED, columns_of, leads_of, mark
from robustjax.reports.compared_verdicts import paired_runs
from robustjax.reports.html.accuracy import accuracy_track
from robustjax.reports.html.charts import Tracks
from robustjax.reports.html.diagnosis import diagnosis
from robustjax.reports.html.elements import Accuracy, Commands, Link, Remark, Table
from robustjax.reports.html.values import title
from robustjax.reports.recorded_scores import (
    Lead,
    Score,
    format_setting,
    recorded_facts,
    recorded_warnings,
)
from robustjax.reports.repeat_commands import first_evaluation_command
from robustjax.runs.folder import RunFolder

_SAID_BY_FLAGS = ("method", "model", "precision")
_FOUND = ("accuracy", "interval_95")


def comparison(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The table of runs and attacks, its figure, and what differs between the runs."""
    columns = columns_of(runs)
    leads = leads_of(columns)
    pairs = paired_runs(runs, columns)
    missing = [run for run in runs if run.evaluation is None]
    return {
        "missing": ", ".join(run.name for run in missing),
        "evaluate_first": Commands("\n".join(first_evaluation_command(run) for run in missing)),
        "table": columns and _table(runs, columns, leads),
        "chart": columns
        and Tracks(
            [
                (
                    attack,
                    [
                        accuracy_track(run.name, score)
                        for run, score in zip(runs, scores, strict=True)
                        if score is not None
                    ],
                )
                for attack, scores in columns.items()
            ],
            caption="Accuracy under each attack, from 0 to 100 %, with its 95 % interval.",
        ),
        "unmarked": [
            Remark(name, found.why_none) for name, found in leads.items() if found.why_none
        ],
        "paired": pairs
        and Table(pairs.head, pairs.rows, f"{pairs.title}. {pairs.note}", range(3, 7)),
        "warned": [
            Link(run.name, f"run-{number}-accuracy")
            for number, run in enumerate(runs)
            if recorded_warnings(run.evaluation)
        ],
        "diagnosed": [
            Remark(run.name, f"{found.verdict}, {found.headline}")
            for run in runs
            if (found := diagnosis(run.diagnosis)) is not None
        ],
        **_differences(runs),
    }


def _table(
    runs: Sequence[RunFolder],
    columns: Mapping[str, Sequence[Score | None]],
    leads: Mapping[str, Lead],
) -> Table:
    rows = [
        [
            Link(run.name, f"run-{number}"),
            *(
                Accuracy(score.percent(), score.percent_interval(), mark(leads[name], number))
                if (score := scores[number])
                else "–"
                for name, scores in columns.items()
            ),
        ]
        for number, run in enumerate(runs)
    ]
    caption = (
        f"Accuracy (%) of {len(runs)} runs, with 95 % intervals. “{BEST}”: higher than all other "
        f"runs by more than the intervals; “{TIED}”: its interval meets that of the highest."
    )
    return Table(["run", *columns], rows, caption, range(1, len(columns) + 1))


def _differences(runs: Sequence[RunFolder]) -> dict[str, Table | None]:
    flags = {f"--{name}": texts for name, texts in differing([run.flags for run in runs]).items()}
    evaluated = [run for run in runs if run.evaluation is not None]
    recorded = [_flat(recorded_facts(run.evaluation)) for run in evaluated]
    others = {
        title(name): texts
        for name, texts in differing(recorded).items()
        if name not in _SAID_BY_FLAGS and not name.endswith(_FOUND)
    }
    return {
        "flags": _side_by_side(runs, flags, "Flags that differ; all others are the same"),
        "evaluations": _side_by_side(evaluated, others, "What differs between the evaluations"),
    }


def _side_by_side(
    runs: Sequence[RunFolder], texts: Mapping[str, Sequence[str]], caption: str
) -> Table | None:
    """What is more numerous, runs or names, goes down the page; None if there are no names."""
    names = [run.name for run in runs]
    if not texts:
        return None
    if len(runs) > len(texts):
        rows = [[name, *values] for name, *values in zip(names, *texts.values(), strict=True)]
        return Table(["run", *texts], rows, caption)
    return Table(["", *names], [[name, *values] for name, values in texts.items()], caption)


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
