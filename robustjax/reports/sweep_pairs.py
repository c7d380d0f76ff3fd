"""The settings of a sweep in pairs: McNemar's exact test between runs of one seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.evaluation.verdicts import paired
from robustjax.files import Path
from robustjax.reports.recorded_verdicts import p_value_text
from robustjax.reports.sweep import SweepRun, Wanted, chosen_records, records_of_run
from robustjax.runs.evaluations import CLEAN, Record

NOTE = (
    "Of each attack and seed the setting with the highest accuracy beside each other one, on the "
    "images that both runs were evaluated on. p: McNemar's exact test, two-sided; the least of "
    "several such p is small by chance more often than it says, and it says nothing of other seeds."
)


def paired_settings(
    runs: Sequence[SweepRun], wanted: Mapping[Path, Wanted] | None = None
) -> list[dict[str, Any]]:
    """The best setting of each attack and seed beside each other one.

    Args:
      runs: of the sweep.
      wanted: the evaluation that each is to have, as for `sweep.gather`.

    Returns:
      [{"attack", "seed", "best", "other", "examples", "best_alone", "other_alone", "p_value"}], of
      runs that have the same attack with the same settings, verdicts, and the same data.
    """
    groups: dict[tuple[str, int, str], list[tuple[str, Record]]] = {}
    for run in runs:
        chosen = None
        if not run.error:
            chosen = chosen_records(records_of_run(run), (wanted or {}).get(run.workdir))
        for name, record in (chosen or {}).items():
            if record.correct is not None:
                alike = repr([sorted(record.settings.items()), record.data.get("digest")])
                groups.setdefault((name, run.seed, alike), []).append((run.name, record))
    found = []
    for (attack, seed, _), members in groups.items():
        best, highest = max(members, key=lambda member: member[1].accuracy)
        for other, record in members:
            if other != best and highest.correct is not None and record.correct is not None:
                examples, first, second, p_value = paired(highest.correct, record.correct)
                found.append(
                    {
                        "attack": attack,
                        "seed": seed,
                        "best": best,
                        "other": other,
                        "examples": examples,
                        "best_alone": first,
                        "other_alone": second,
                        "p_value": p_value,
                    }
                )
    return sorted(found, key=lambda row: (row["attack"] != CLEAN, row["attack"], row["seed"]))


def pairs_to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of the pairs; "" if there are none."""
    if not rows:
        return ""
    head = ["attack", "seed", "best", "other", "images", "best alone", "other alone", "p"]
    lines = [NOTE, "", f"| {' | '.join(head)} |", "| --- | ---: | --- | --- |" + " ---: |" * 4]
    for row in rows:
        cells = [str(row[key]) for key in ("attack", "seed", "best", "other", "examples")]
        cells += [str(row["best_alone"]), str(row["other_alone"]), p_value_text(row["p_value"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(["", *lines, ""])
