"""What a sweep found: the runs of each setting gathered over the seeds, as numbers and a table."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.evaluation.report import MEASURED, WORST_CASE
from robustjax.files import Path

CENTRES = {"median": statistics.median, "mean": statistics.fmean}

CLEAN = "clean"

WORST = "worst case"

PATH_FLAGS = ("flagfile", "init_from", "extra_data", "data_dir")
"""Swept flags whose values are files, which a name calls by their last part."""


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


class Wanted(NamedTuple):
    """The evaluation that a run of a sweep is to have.

    Attributes:
      attacks: names of attacks.
      examples: the first N of the test set; 0 for all.
      checkpoint: "best" or "latest".
      epsilon: radius of the ball.
      step_size: of PGD and CW.
      epochs: how long the run is to have been trained.
    """

    attacks: Sequence[str]
    examples: int
    checkpoint: str
    epsilon: float
    step_size: float
    epochs: int


class Spread(NamedTuple):
    """A figure over seeds: its centre and its sample standard deviation (0 for one seed)."""

    centre: float
    deviation: float


def label(name: str, value: str) -> str:
    """A swept value in words: a flag file by its name, other files by their last part."""
    if name == "flagfile":
        return Path(value).stem
    return f"{name}={Path(value).name if name in PATH_FLAGS else value}"


def is_evaluated(run: SweepRun, wanted: Wanted) -> bool:
    """Whether a run's evaluation.json is of the attacks, settings and examples that are wanted."""
    path = run.workdir / "evaluation.json"
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    scores = [found["attacks"].get(name) for name in wanted.attacks if name != CLEAN]
    available = found.get("available_examples") or math.inf
    return (
        all(score is not None and _is_set_as(score, wanted) for score in scores)
        and found["examples"] == min(wanted.examples or math.inf, available)
        and found["checkpoint"]["kind"] == wanted.checkpoint
        and found.get("trained_epochs", wanted.epochs) == wanted.epochs
    )


def _is_set_as(score: Mapping[str, Any], wanted: Wanted) -> bool:
    # FGSM's step is epsilon, whatever is asked for.
    step_size = wanted.step_size if "restarts" in score else wanted.epsilon
    return math.isclose(score["epsilon"], wanted.epsilon, rel_tol=1e-6) and math.isclose(
        score["step_size"], step_size, rel_tol=1e-6
    )


def gather(runs: Sequence[SweepRun], centre: str = "median") -> list[dict[str, Any]]:
    """One entry for each setting, in the order of the runs.

    Args:
      runs: of the sweep; those without an evaluation yet are counted, and left out of the figures.
      centre: "median" or "mean", over the seeds.

    Returns:
      [{"name", "values", "seeds", "failed", "accuracy": {attack: {"centre", "deviation"}},
      "runs", "mean_backward_passes", "training_seconds"}], accuracies as fractions. The backward
      passes are those per image, averaged over all epochs and the runs, the seconds those of a
      whole run, averaged over the runs. "worst case" is among the attacks where every run has been
      attacked by the same ones. "runs" has the accuracies of each run by itself.
    """
    settings: dict[str, list[SweepRun]] = {}
    for run in runs:
        settings.setdefault(run.name, []).append(run)
    found = {run.workdir: _read_run(run) for run in runs}
    lists = {tuple(sorted(entry["accuracy"])) for entry in found.values() if entry}
    if len(lists) > 1:
        for entry in filter(None, found.values()):
            entry["accuracy"].pop(WORST, None)
    return [
        _gather_setting(name, group, [found[run.workdir] for run in group], centre)
        for name, group in settings.items()
    ]


def _read_run(run: SweepRun) -> dict[str, Any] | None:
    """What one run has to tell; None if it has failed or is not evaluated yet."""
    path, log = run.workdir / "evaluation.json", run.workdir / "metrics.jsonl"
    if run.error or not path.exists():
        return None
    if not log.exists():
        raise ValueError(f"--sweep_dir: {run.workdir} has an evaluation.json and no metrics.jsonl")
    found = json.loads(path.read_text())
    scores = {name: score["robust_accuracy"] for name, score in found["attacks"].items()}
    worst = {WORST: found[WORST_CASE]} if WORST_CASE in found else {}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    in_the_table = ("robust_accuracy", "interval_95")
    return {
        "seed": run.seed,
        "folder": run.workdir.name,
        "accuracy": {CLEAN: found["clean_accuracy"], **scores, **worst},
        "examples": found["examples"],
        "attacks": {
            name: {key: value for key, value in score.items() if key not in in_the_table}
            for name, score in found["attacks"].items()
        },
        "versions": found["versions"],
        "mean_backward_passes": statistics.fmean(row["mean_backward_passes"] for row in rows),
        "training_seconds": rows[-1]["elapsed_seconds"],
    }


def _settings_of(attack: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attack.items() if key not in MEASURED}


def _gather_setting(
    name: str, runs: list[SweepRun], found: list[dict[str, Any] | None], centre: str
) -> dict[str, Any]:
    done = [entry for entry in found if entry is not None]
    attacks = dict.fromkeys(attack for entry in done for attack in entry["accuracy"])
    return {
        "name": name,
        "values": dict(runs[0].values),
        "seeds": [entry["seed"] for entry in done],
        "failed": {run.workdir.name: run.error for run in runs if run.error},
        "accuracy": {
            attack: spread(
                [entry["accuracy"][attack] for entry in done if attack in entry["accuracy"]], centre
            )._asdict()
            for attack in attacks
        },
        "runs": done,
        "mean_backward_passes": _mean(done, "mean_backward_passes"),
        "training_seconds": _mean(done, "training_seconds"),
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
        f"Accuracy in per cent, {centre} ± sample standard deviation over the seeds; worst case: "
        "correct under every attack; backward passes per image, mean over the epochs; seconds of "
        "training with compilation and measuring.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for entry in settings:
        cells = [entry["name"]]
        for attack in attacks:
            cells.append(_shown(entry["accuracy"].get(attack), len(entry["seeds"])))
        failed = f", {len(entry['failed'])} failed" if entry["failed"] else ""
        cells.append(f"{len(entry['seeds'])}{failed}")
        for key, form in (("mean_backward_passes", ".2f"), ("training_seconds", ".0f")):
            cells.append("" if entry[key] is None else format(entry[key], form))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(accuracy: Mapping[str, float] | None, seeds: int) -> str:
    """A cell of the table; one seed has no deviation."""
    if accuracy is None:
        return ""
    centre = f"{100 * accuracy['centre']:.2f}"
    return f"{centre} ± {100 * accuracy['deviation']:.2f}" if seeds > 1 else centre


def to_markdown(settings: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """The content of sweep.md: the table, and below it what is needed to repeat it.

    Args:
      settings: of `gather`.
      about: the "center", and what else is to be recorded.
    """
    done = [run for entry in settings for run in entry["runs"]]
    facts = {"command": f"`{about['command']}`"}
    if about.get("total_seconds"):
        facts["time of the whole sweep"] = f"{about['total_seconds']:.0f} s"
    if done:
        facts["examples"] = _distinct(str(run["examples"]) for run in done)
        for name in dict.fromkeys(name for run in done for name in run["attacks"]):
            used = [run["attacks"][name] for run in done if name in run["attacks"]]
            facts[name] = _distinct(_listed(_settings_of(attack)) for attack in used)
        for run in done:
            found = [
                text for attack in run["attacks"].values() for text in attack.get("warnings", ())
            ]
            if found:
                facts[f"warnings: {run['folder']}"] = "; ".join(found)
        facts["versions"] = _distinct(_listed(run["versions"]) for run in done)
    for run, error in (pair for entry in settings for pair in entry["failed"].items()):
        facts[f"failed: {run}"] = error
    lines = [f"* {key}: {value}" for key, value in facts.items()]
    return "\n".join([to_table(settings, about["center"]), *lines]) + "\n"


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
    )


def _distinct(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
