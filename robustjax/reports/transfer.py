"""Writes what a transfer of adversarial images found: for programs, for people, and as a figure."""

import json
from collections.abc import Mapping
from typing import Any

from robustjax.files import Path, write_whole
from robustjax.reports.figures.transfer import heat_map
from robustjax.reports.recorded_verdicts import p_value_text
from robustjax.runs.names import TRANSFER


def write(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes transfer.json, transfer.md, transfer.csv and transfer.png; gives the first."""
    write_whole(folder / "transfer.md", to_markdown(summary))
    heat_map(summary, folder / "transfer.png")
    return write_whole(folder / TRANSFER, json.dumps(summary, indent=2) + "\n")


def to_markdown(summary: Mapping[str, Any]) -> str:
    """The matrix as two tables, and below them everything needed to repeat it."""
    lines = [
        f"# Transfer of {summary['attack']['name']} on {summary['examples']} examples",
        "",
        "Accuracy of each target (column) on the adversarial images of each source (row), with the "
        "95 % interval, in per cent: as the papers count, whatever the target says of the clean "
        "image. Bold: source and target are one network (white-box).",
        "",
        *_table(summary, "accuracy", "interval_95"),
        "",
        "Robust accuracy: an image counts only if the target is right about it clean as well.",
        "",
        *_table(summary, "robust_accuracy", "robust_interval_95"),
    ]
    lines += _pairs(summary.get("paired", {}))
    rest = ("clean", "transfer", "examples", "runs", "paired")
    lines += ["", *(f"* {key}: {_plain(v)}" for key, v in summary.items() if key not in rest)]
    lines += [f"* {name}: {_plain(run)}" for name, run in summary.get("runs", {}).items()]
    return "\n".join(lines) + "\n"


def _table(summary: Mapping[str, Any], accuracy: str, interval: str) -> list[str]:
    """The lines of the table of one of the two accuracies."""
    targets = list(summary["clean"])
    clean = (_percent(summary["clean"][name], "accuracy", "interval_95") for name in targets)
    lines = [
        f"| source | {' | '.join(_cell(name) for name in targets)} |",
        f"| --- |{' ---: |' * len(targets)}",
        f"| clean images | {' | '.join(clean)} |",
    ]
    for source, by_target in summary["transfer"].items():
        cells = []
        for entry in (by_target[name] for name in targets):
            text = _percent(entry, accuracy, interval)
            cells.append(f"**{text}**" if entry["white_box"] else text)
        lines.append(f"| {_cell(source)} | {' | '.join(cells)} |")
    return lines


def _pairs(paired: Mapping[str, Any]) -> list[str]:
    """The lines of the table of targets in pairs; none where there is one target."""
    rows = [
        [
            _cell(source), _cell(row["best"]), _cell(row["other"]), str(row["best_alone"]),
            str(row["other_alone"]), p_value_text(row["p_value"]),
        ]
        for source, found in paired.items()
        for row in found
    ]  # fmt: skip
    if not rows:
        return []
    return [
        "",
        "The best target on each source's images beside each other one: how many images the one "
        "alone is right about, and how many the other; p of McNemar's exact test, two-sided.",
        "",
        "| source | best | other | best alone | other alone | p |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _percent(entry: Mapping[str, Any], accuracy: str, interval: str) -> str:
    low, high = entry[interval]
    return f"{100 * entry[accuracy]:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
