"""What an evaluation.json says of verdicts, as tables: accuracy by class, attacks in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.arguments import is_number
from robustjax.runs.evaluations import is_count, is_fraction

PAIRED_NOTE = (
    "p: McNemar's exact test, two-sided, of whether both attacks break equally many; the least of "
    "several such p is small by chance more often than it says."
)


class Grid(NamedTuple):
    """A table of texts.

    Attributes:
      title: what it shows.
      head: of the columns.
      rows: as long as `head`; the first cell is the row's heading, the others are numbers.
      note: what is said below it; may be "".
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def recorded_grids(evaluation: Mapping[str, Any]) -> list[Grid]:
    """The tables that there are of verdicts; what makes no sense is left out."""
    return [grid for grid in (_per_class(evaluation), _paired(evaluation)) if grid is not None]


def p_value_text(value: float) -> str:
    """A p-value as people write it."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _per_class(evaluation: Mapping[str, Any]) -> Grid | None:
    rows = [row for row in _listed(evaluation, "per_class") if _is_class(row)]
    if not rows:
        return None
    attacks = list(dict.fromkeys(name for row in rows for name in _accuracies(row)))
    worst = "worst_case_robust_accuracy"
    last = ["worst case"] if len(attacks) > 1 and all(worst in row for row in rows) else []
    cells = []
    for row in rows:
        shown = [row["clean_accuracy"], *(_accuracies(row).get(name) for name in attacks)]
        shown += [row[worst]] if last else []
        cells.append([str(row["class"]), f"{row['examples']:,}", *map(_percent, shown)])
    head = ["class", "examples", "clean", *attacks, *last]
    return Grid("Accuracy of each class (%)", head, cells)


def _paired(evaluation: Mapping[str, Any]) -> Grid | None:
    rows = [row for row in _listed(evaluation, "paired") if _is_pair(row)]
    if not rows:
        return None
    strongest = rows[0]["strongest"]
    cells = [
        [
            row["attack"],
            f"{row['examples']:,}",
            f"{row['broken_by_attack_alone']:,}",
            f"{row['broken_by_strongest_alone']:,}",
            p_value_text(row["p_value"]),
        ]
        for row in rows
    ]
    head = ["attack", "examples", "broken by it alone", f"broken by {strongest} alone", "p"]
    return Grid(f"Attacks beside the strongest, {strongest}", head, cells, PAIRED_NOTE)


def _listed(evaluation: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = evaluation.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _accuracies(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found = row.get("robust_accuracy")
    return found if isinstance(found, dict) else {}


def _is_class(row: Mapping[str, Any]) -> bool:
    return is_count(row.get("examples")) and "class" in row and "clean_accuracy" in row


def _is_pair(row: Mapping[str, Any]) -> bool:
    counts = (row.get("broken_by_attack_alone"), row.get("broken_by_strongest_alone"))
    names = (row.get("attack"), row.get("strongest"))
    return (
        is_number(row.get("p_value"))
        and isinstance(row.get("examples"), int)
        and all(isinstance(count, int) for count in counts)
        and all(isinstance(name, str) for name in names)
    )


def _percent(value: Any) -> str:
    return f"{100 * value:.2f}" if is_fraction(value) else "–"
