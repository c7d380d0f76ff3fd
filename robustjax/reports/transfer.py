"""Writes what a transfer of adversarial images found: for programs, for people, and as a figure."""

import json
from collections.abc import Mapping
from typing import Any

from robustjax.files import Path, write_whole
from robustjax.reports.figures.transfer import heat_map
from robustjax.runs.names import TRANSFER


def write(summary: Mapping[str, Any], folder: Path) -> Path:
    """Writes transfer.json, transfer.md, transfer.csv and transfer.png; gives the first."""
    write_whole(folder / "transfer.md", to_markdown(summary))
    heat_map(summary, folder / "transfer.png")
    return write_whole(folder / TRANSFER, json.dumps(summary, indent=2) + "\n")


def to_markdown(summary: Mapping[str, Any]) -> str:
    """The matrix as a table, and below it everything needed to repeat it."""
    targets = list(summary["clean"])
    attack = summary["attack"]
    lines = [
        f"# Transfer of {attack['name']} on {summary['examples']} examples",
        "",
        "Accuracy of each target (column) on the adversarial images of each source (row), with the "
        "95 % interval, in per cent. An image counts if the target is right about it clean and "
        "adversarial. Bold: source and target are one network (white-box).",
        "",
        f"| source | {' | '.join(_cell(name) for name in targets)} |",
        f"| --- |{' ---: |' * len(targets)}",
        f"| clean images | {' | '.join(_percent(summary['clean'][name]) for name in targets)} |",
    ]
    for source, by_target in summary["transfer"].items():
        cells = (
            f"**{_percent(entry)}**" if entry["white_box"] else _percent(entry)
            for entry in (by_target[name] for name in targets)
        )
        lines.append(f"| {_cell(source)} | {' | '.join(cells)} |")
    rest = ("clean", "transfer", "examples", "runs")
    lines += ["", *(f"* {key}: {_plain(v)}" for key, v in summary.items() if key not in rest)]
    lines += [f"* {name}: {_plain(run)}" for name, run in summary.get("runs", {}).items()]
    return "\n".join(lines) + "\n"


def _percent(entry: Mapping[str, Any]) -> str:
    accuracy = entry.get("robust_accuracy", entry.get("accuracy"))
    low, high = entry["interval_95"]
    return f"{100 * accuracy:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
