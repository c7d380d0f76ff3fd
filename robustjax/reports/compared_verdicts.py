"""Runs in pairs: McNemar's exact test on the verdicts that their scores are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robustjax.evaluation.verdicts import paired
from robustjax.reports.recorded_scores import CLEAN, WORST, Score, recorded_scores
from robustjax.reports.recorded_verdicts import Grid, p_value_text
from robustjax.runs.evaluations import Record
from robustjax.runs.folder import RunFolder

_NOTE = (
    "On the images that both runs were evaluated on: how many the one alone is right about, and "
    "how many the other. p: McNemar's exact test, two-sided; the least of several such p is small "
    "by chance more often than it says."
)


def paired_runs(
    runs: Sequence[RunFolder], columns: Mapping[str, Sequence[Score | None]]
) -> Grid | None:
    """The highest of each column beside each other run, as far as verdicts are recorded.

    Args:
      runs: with their records.
      columns: of `compared_columns.columns_of`.

    Returns:
      None if there is nothing to compare.
    """
    known = [verdicts_behind(run) for run in runs]
    rows = []
    for head, scores in columns.items():
        there = [
            (score.accuracy or 0.0, position, *known[position][score.name])
            for position, score in enumerate(scores)
            if score is not None and score.name in known[position]
        ]
        if len(there) < 2:
            continue
        _, best, data, verdicts = max(there, key=lambda one: one[0])
        for _, position, other_data, other in there:
            if position != best and other_data == data:
                found = paired(verdicts, other)
                rows.append(
                    [
                        head,
                        runs[best].name,
                        runs[position].name,
                        f"{found.examples:,}",
                        f"{found.first_alone:,}",
                        f"{found.second_alone:,}",
                        p_value_text(found.p_value),
                    ]
                )
    if not rows:
        return None
    titles = ["score", "highest", "other", "images", "highest alone", "other alone", "p"]
    return Grid("Runs in pairs", titles, rows, _NOTE)


def verdicts_behind(run: RunFolder) -> dict[str, tuple[str, np.ndarray]]:
    """Name of a score -> the digest of the data and the verdicts that it is of, where recorded."""
    evaluation = run.evaluation or {}
    found: dict[str, tuple[str, np.ndarray]] = {}
    scores = recorded_scores(evaluation)
    for score in scores:
        records = [record for record in run.records if _is_of(score, record, evaluation)]
        if records and records[-1].correct is not None:
            found[score.name] = (str(records[-1].data.get("digest")), records[-1].correct)
    worst = [
        score.name
        for score in scores
        if score.name == CLEAN or (score.settings and "examples" not in score.settings)
    ]
    if all(name in found for name in worst) and len({found[name][0] for name in worst}) == 1:
        verdicts = [found[name][1] for name in worst]
        if len(worst) > 1 and len(set(map(len, verdicts))) == 1:
            found[WORST] = (found[CLEAN][0], np.logical_and.reduce(verdicts))
    return found


def _is_of(score: Score, record: Record, evaluation: Mapping) -> bool:
    """Whether a score of an evaluation.json is that of a record."""
    checkpoint = evaluation.get("checkpoint")
    step = checkpoint.get("step") if isinstance(checkpoint, dict) else None
    values = {**score.settings, **score.details}
    seed = values.get("seed", evaluation.get("seed"))
    return (
        (record.attack == score.name or score.name.startswith(f"{record.attack}("))
        and record.accuracy == score.accuracy
        and record.examples == values.get("examples", evaluation.get("examples"))
        and record.checkpoint.get("step") == step
        and record.data.get("dataset") == evaluation.get("dataset")
        and (score.name == CLEAN or record.about.get("seed") == seed)
        and all(values.get(key) == value for key, value in record.settings.items())
    )
