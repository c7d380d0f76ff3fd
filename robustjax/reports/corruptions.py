"""Writes accuracies on corrupted images: for programs, for people, and as a figure."""

import json
from collections.abc import Mapping
from typing import Any

from robustjax import installed
from robustjax.files import Path, write_whole
from robustjax.runs.names import CORRUPTIONS

FILES = (CORRUPTIONS, "corruptions.md", "corruptions.csv", "corruptions.png")
"""What `write_corruptions` writes."""


def write_corruptions(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes `FILES`; gives the path of the first.

    Raises:
      UserError: what draws the figure is not installed; all else is written.
    """
    write_whole(folder / "corruptions.md", to_markdown(summary))
    path = write_whole(folder / CORRUPTIONS, json.dumps(summary, indent=2) + "\n")
    with installed.naming_the_extra():
        from robustjax.reports.figures.corruptions import corruption_map
    corruption_map(summary, folder / "corruptions.png")
    return path


def to_markdown(summary: Mapping[str, Any]) -> str:
    """The table, and below it everything needed to repeat it."""
    lines = [
        "# Accuracy on corrupted images",
        "",
        "In per cent, by severity. The mean is that of all severities of the benchmark's "
        "corruptions, each of the same weight; those marked * are no part of it.",
        "",
        *table(summary),
        "",
    ]
    if summary["missing"]:
        lines += [f"Not there, and not in the mean: {', '.join(summary['missing'])}.", ""]
    rest = ("corruptions", "mean_accuracy", "mean_by_severity", "missing")
    lines += [f"* {key}: {_plain(value)}" for key, value in summary.items() if key not in rest]
    return "\n".join(lines) + "\n"


def table(summary: Mapping[str, Any]) -> list[str]:
    """The lines of the table: a corruption a row, a severity a column, and the mean."""
    found = summary["corruptions"]
    severities = len(next(iter(found.values()))["accuracy"])
    numbers = [str(1 + column) for column in range(severities)]
    lines = [
        f"| corruption | {' | '.join(numbers)} | mean |",
        f"| --- |{' ---: |' * (severities + 1)}",
    ]
    for name, entry in found.items():
        shown = name.replace("|", "\\|") + ("" if entry["in_mean"] else " *")
        lines.append(_row(shown, [*entry["accuracy"], entry["mean_accuracy"]]))
    if summary["mean_accuracy"] is not None:
        mean = [*summary["mean_by_severity"], summary["mean_accuracy"]]
        lines.append(_row("**mean**", mean))
    return lines


def _row(name: str, accuracies: list[float]) -> str:
    cells = (f"{100 * value:.2f}" for value in accuracies)
    return f"| {name} | {' | '.join(cells)} |"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
