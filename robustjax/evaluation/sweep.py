"""What a sweep found: the runs of each setting gathered over the seeds, as numbers and a table."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.evaluation.report import WORST_CASE
from robustjax.files import Path

CENTRES = {"median": statistics.median, "mean": statistics.fmean}

CLEAN = "clean"


class SweepRun(NamedTuple):
    """One run of a sweep.

    Attributes:
      values: what distinguishes it from the others, flag -> value as text; without the seed.
      seed: of the run.
      workdir: its folder.
      error: why it failed; empty if it did not.
    """

    values: Mapping[str, str]
    seed: int
    workdir: Path
    error: str = ""

    @property
    def name(self) -> str:
        """The setting in words, without the seed."""
        return " ".join(label(name, value) for name, value in self.values.items()) or "run"


class Spread(NamedTuple):
    """A figure over seeds: its centre and its sample standard deviation (0 for one seed)."""

    centre: float
    deviation: float


def label(name: str, value: str) -> str:
    """A swept value in words: a flag file by its name, anything else as name=value."""
    return Path(value).stem if name == "flagfile" else f"{name}={value}"


def is_evaluated(run: SweepRun, attacks: Sequence[str], examples: int) -> bool:
    """Whether a run's evaluation has the attacks asked for, on as many examples."""
    path = run.workdir / "evaluation.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    missing = [name for name in attacks if name != CLEAN and name not in found["attacks"]]
    return not missing and (examples == 0 or found["examples"] == examples)


def gather(runs: Sequence[SweepRun], centre: str = "median") -> list[dict[str, Any]]:
    """One entry for each setting, in the order of the runs.

    Args:
      runs: of the sweep; those without an evaluation yet are counted, and left out of the figures.
      centre: "median" or "mean", over the seeds.

    Returns:
      [{"name", "values", "seeds", "failed", "accuracy": {attack: {"centre", "deviation"}},
      "mean_backward_passes", "training_seconds"}], accuracies as fractions; the last two of each
      run's last row, averaged over the runs.
    """
    settings: dict[str, list[SweepRun]] = {}
    for run in runs:
        settings.setdefault(run.name, []).append(run)
    return [_gather_setting(name, group, centre) for name, group in settings.items()]


def _gather_setting(name: str, runs: list[SweepRun], centre: str) -> dict[str, Any]:
    accuracies: dict[str, list[float]] = {}
    seeds, last_rows = [], []
    for run in runs:
        path = run.workdir / "evaluation.json"
        if run.error or not path.exists():
            continue
        found = json.loads(path.read_text())
        seeds.append(run.seed)
        accuracies.setdefault(CLEAN, []).append(found["clean_accuracy"])
        for attack, score in found["attacks"].items():
            accuracies.setdefault(attack, []).append(score["robust_accuracy"])
        if WORST_CASE in found:
            accuracies.setdefault("worst case", []).append(found[WORST_CASE])
        rows = (run.workdir / "metrics.jsonl").read_text().splitlines()
        last_rows.append(json.loads(rows[-1]))
    return {
        "name": name,
        "values": dict(runs[0].values),
        "seeds": seeds,
        "failed": {str(run.workdir): run.error for run in runs if run.error},
        "accuracy": {
            attack: spread(values, centre)._asdict() for attack, values in accuracies.items()
        },
        "mean_backward_passes": _mean(last_rows, "mean_backward_passes"),
        "training_seconds": _mean(last_rows, "elapsed_seconds"),
    }


def spread(values: Sequence[float], centre: str) -> Spread:
    """The centre of some values and their sample standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(CENTRES[centre](values), deviation)


def _mean(rows: Sequence[Mapping[str, float]], key: str) -> float | None:
    return statistics.fmean(row[key] for row in rows) if rows else None


def to_table(settings: Sequence[Mapping[str, Any]], centre: str = "median") -> str:
    """The settings as a Markdown table, accuracies in per cent."""
    attacks = list(dict.fromkeys(attack for entry in settings for attack in entry["accuracy"]))
    head = ["setting", *attacks, "seeds", "backward passes", "training (s)"]
    lines = [
        f"Accuracy in per cent, {centre} ± sample standard deviation over the seeds; backward "
        "passes per image in the last epoch; seconds of training with compilation and measuring.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for entry in settings:
        cells = [entry["name"]]
        for attack in attacks:
            found = entry["accuracy"].get(attack)
            cells.append(
                "" if found is None
                else f"{100 * found['centre']:.2f} ± {100 * found['deviation']:.2f}"
            )  # fmt: skip
        failed = f", {len(entry['failed'])} failed" if entry["failed"] else ""
        cells.append(f"{len(entry['seeds'])}{failed}")
        for key, form in (("mean_backward_passes", ".2f"), ("training_seconds", ".0f")):
            cells.append("" if entry[key] is None else format(entry[key], form))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
