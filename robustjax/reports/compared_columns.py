"""Runs side by side: a column for each score, and who is best in it.

What was not measured alike never shares a column: scores of other settings, other data, or another
list of attacks stand in columns of their own, whose heads say which.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.data import NAMED_BY_PATH
from robustjax.reports.recorded_scores import (
    CLEAN,
    NO_ATTACKS,
    WORST,
    WORST_SHARED,
    Lead,
    Score,
    describe_settings,
    format_setting,
    lead,
    recorded_facts,
    recorded_scores,
)
from robustjax.runs.folder import RunFolder

BEST, TIED = "best", "≈ best"

_ABSENT = "not given"


def columns_of(runs: Sequence[RunFolder]) -> dict[str, list[Score | None]]:
    """Head -> the score of each run: clean first, then the attacks, then the worst cases.

    The number of examples makes no other column: it widens the interval.
    """
    found = [{score.name: score for score in recorded_scores(run.evaluation)} for run in runs]
    names = dict.fromkeys(name for scores in found for name in scores)
    columns: dict[str, list[Score | None]] = {}
    for name in [CLEAN, *(name for name in names if name not in NO_ATTACKS)]:
        if name in names:
            data = [conditions_of(run) for run in runs]
            columns |= _alike(name, [scores.get(name) for scores in found], data)
    attacks = dict(columns)
    for name in (WORST, WORST_SHARED):
        if name in names:
            lists = [
                {**conditions_of(run), "attacks": _attacks_in(attacks, name, position)}
                for position, run in enumerate(runs)
            ]
            columns |= _alike(name, [scores.get(name) for scores in found], lists)
    return columns


def leads_of(columns: Mapping[str, Sequence[Score | None]]) -> dict[str, Lead]:
    """Head -> which runs are best in a column, or why nothing can be said."""
    return {head: lead(scores) for head, scores in columns.items()}


def mark(found: Lead, position: int) -> str:
    """What is written beside a score: that it is best, among the best, or nothing."""
    if position not in found.leaders:
        return ""
    return BEST if len(found.leaders) == 1 else TIED


def conditions_of(run: RunFolder) -> dict[str, str]:
    """What a run was evaluated on, in words: the data, which classes of it, and how large."""
    own = run.flags.get("dataset", "")
    found = {
        "data": str(recorded_facts(run.evaluation).get("dataset") or own),
        "classes": run.flags.get("classes") or "all",
        "image_size": run.flags.get("image_size") or "0",
    }
    if own in NAMED_BY_PATH:
        digests = {
            str(record.data["digest"])
            for record in run.records
            if record.data.get("digest") and record.data.get("dataset") == found["data"]
        }
        place = os.path.realpath(run.flags.get("data_dir", ""))
        found["images"] = digests.pop()[:8] if len(digests) == 1 else place
    return found


def _attacks_in(columns: Mapping[str, Sequence[Score | None]], worst: str, position: int) -> str:
    """The attacks that the worst case of a run is of."""
    there = {head: scores[position] for head, scores in columns.items()}
    return ", ".join(
        head
        for head, score in there.items()
        if score is not None
        and score.name != CLEAN
        and (worst == WORST_SHARED or "examples" not in score.settings)
    )


def _alike(
    name: str, scores: Sequence[Score | None], more: Sequence[Mapping[str, Any]]
) -> dict[str, list[Score | None]]:
    """One column, or one for each group of scores that were measured alike."""
    conditions = [
        {
            key: format_setting(value)
            for key, value in ({} if score is None else {**score.settings, **other}).items()
            if key != "examples"
        }
        for score, other in zip(scores, more, strict=True)
    ]
    groups: dict[str, list[int]] = {}
    for position, score in enumerate(scores):
        if score is not None:
            key = json.dumps(conditions[position], sort_keys=True)
            groups.setdefault(key, []).append(position)
    first = [conditions[positions[0]] for positions in groups.values()]
    different = [
        key
        for key in dict.fromkeys(key for found in first for key in found)
        if any(found.get(key, _ABSENT) != first[0].get(key, _ABSENT) for found in first)
    ]
    columns: dict[str, list[Score | None]] = {}
    for found, positions in zip(first, groups.values(), strict=True):
        said = describe_settings({key: found.get(key, _ABSENT) for key in different})
        head = f"{name} ({said})" if said else name
        while head in columns:
            head += "'"
        columns[head] = [
            score if position in positions else None for position, score in enumerate(scores)
        ]
    return columns
