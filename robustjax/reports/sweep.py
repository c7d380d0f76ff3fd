"""What a sweep found: the runs of each setting gathered over the seeds, as numbers and a table."""

import functools
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robustjax.arguments import is_finite, is_number
from robustjax.attacks.threat_model import NORMS
from robustjax.errors import UserError
from robustjax.evaluation.accumulated import earlier_records
from robustjax.evaluation.asked import usual_settings
from robustjax.evaluation.protocols import protocol_attacks
from robustjax.evaluation.spec import AttackSpec, parse_attack
from robustjax.evaluation.summary import MEASURED
from robustjax.files import Path, read_json
from robustjax.runs.evaluations import CLEAN, WORST_CASE, Evaluations, Record, Selection
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS

CENTRES: dict[str, Callable[[Sequence[float]], float]] = {
    "median": statistics.median,
    "mean": statistics.fmean,
}

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
      step_size: of PGD and CW; None: what follows from the radius.
      epochs: how long the run is to have been trained.
      protocol: whose attacks they are, with its radius, steps and examples; "" if no paper's.
      dataset: of the run.
      norm: of the ball; "", in the records of earlier versions, is any.
    """

    attacks: Sequence[str]
    examples: int
    checkpoint: str
    epsilon: float
    step_size: float | None
    epochs: int
    protocol: str = ""
    dataset: str = ""
    norm: str = ""

    def selection(self, attack: str) -> Selection:
        """What a record of one of the attacks has to be."""
        if self.protocol:
            return self._of_protocol(attack)
        return self._selection(parse_attack(attack), self.examples or math.inf)

    def _of_protocol(self, attack: str) -> Selection:
        spec = _in_protocol(self.protocol, self.dataset)[attack]
        examples = min(self.examples or math.inf, spec.examples or math.inf)
        return self._selection(spec, examples)

    def _selection(self, spec: AttackSpec, examples: float) -> Selection:
        settings = usual_settings(spec, self.norm or NORMS[0], self.epsilon, self.step_size)
        if not self.norm:
            settings.pop("norm", None)
        return Selection(spec.name, examples, self.checkpoint, self.epochs, settings, seed=0)


class Spread(NamedTuple):
    """A figure over seeds: its centre and its sample standard deviation (0 for one seed)."""

    centre: float
    deviation: float


@functools.cache
def _in_protocol(protocol: str, dataset: str) -> dict[str, AttackSpec]:
    return {spec.name: spec for spec in protocol_attacks(protocol, dataset)}


def label(name: str, value: str) -> str:
    """A swept value in words: a flag file by its name, other files by their last part."""
    if name == "flagfile":
        return Path(value).stem
    return f"{name}={Path(value).name if name in PATH_FLAGS else value}"


def is_evaluated(run: SweepRun, wanted: Wanted) -> bool:
    """Whether a run's records have all attacks, with the settings and examples, that are wanted."""
    chosen = chosen_records(records_of_run(run), wanted)
    return chosen is not None and all(attack in chosen for attack in wanted.attacks)


def records_of_run(run: SweepRun) -> list[Record]:
    """The records of a run's evaluations; what is damaged is as if it had never been made."""
    try:
        return Evaluations(run.workdir).records() or earlier_records(run.workdir)
    except OSError:  # A folder of that name, or a file that may not be read.
        return []


def chosen_records(records: Sequence[Record], wanted: Wanted | None) -> dict[str, Record] | None:
    """The record of each attack, the newest of those that are wanted; None without a clean one.

    Of what is not wanted by name the newest of each attack is taken.
    """
    found: dict[str, Record] = {}
    names = dict.fromkeys(record.attack for record in records)
    if wanted is not None:
        names = dict.fromkeys((CLEAN, *wanted.attacks))
    for name in names:
        selection = Selection(name) if wanted is None else wanted.selection(name)
        accepted = [record for record in records if selection.accepts(record)]
        if accepted:
            found[name] = accepted[-1]
    subjects = {record.subject for record in found.values()}
    newest = found[CLEAN].subject if CLEAN in found else None
    if len(subjects) > 1:  # Of two trainings of one run the later one counts.
        found = {name: record for name, record in found.items() if record.subject == newest}
    return found if CLEAN in found else None


def gather(
    runs: Sequence[SweepRun],
    centre: str = "median",
    wanted: Mapping[Path, Wanted] | None = None,
) -> list[dict[str, Any]]:
    """One entry for each setting, in the order of the runs.

    Args:
      runs: of the sweep; those without an evaluation yet are counted, and left out of the figures.
      centre: "median" or "mean", over the seeds.
      wanted: folder of a run -> the evaluation that it is to have; whatever else was measured of it
        has no part in the figures. None: the newest of each attack, if all runs agree in it.

    Returns:
      [{"name", "values", "seeds", "failed", "accuracy": {attack: {"centre", "deviation"}},
      "runs", "mean_backward_passes", "training_seconds"}], accuracies as fractions. The backward
      passes are those per image, averaged over all epochs and the runs, the seconds those of a
      whole run, averaged over the runs. "worst case" is among the attacks where every run has been
      attacked by the same ones. "runs" has the accuracies of each run by itself.

    Raises:
      ValueError: it is not said which evaluation is wanted, and the runs were not evaluated alike.
    """
    settings: dict[str, list[SweepRun]] = {}
    for run in runs:
        settings.setdefault(run.name, []).append(run)
    found = {run.workdir: _read_run(run, (wanted or {}).get(run.workdir)) for run in runs}
    if wanted is None:
        for group in settings.values():
            _require_one_evaluation([found[run.workdir] for run in group])
    lists = {tuple(sorted(entry["accuracy"])) for entry in found.values() if entry}
    if len(lists) > 1:
        for entry in filter(None, found.values()):
            entry["accuracy"].pop(WORST, None)
    return [
        _gather_setting(name, group, [found[run.workdir] for run in group], centre)
        for name, group in settings.items()
    ]


def _read_run(run: SweepRun, wanted: Wanted | None) -> dict[str, Any] | None:
    """What one run has to tell; None if it has failed, or is not trained and evaluated yet."""
    log = run.workdir / METRICS
    rows = read_rows(log) if log.exists() else []
    chosen = chosen_records(records_of_run(run), wanted)
    if run.error or not rows or chosen is None:
        return None
    accuracy = {name: record.accuracy for name, record in chosen.items()}
    worst = _worst_case(list(chosen.values()))
    clean = chosen[CLEAN]
    return {
        "seed": run.seed,
        "folder": run.workdir.name,
        "accuracy": accuracy if worst is None else {**accuracy, WORST: worst},
        "examples": clean.examples,
        "attacks": {
            name: {**record.settings, **record.measured}
            for name, record in chosen.items()
            if name != CLEAN
        },
        "versions": clean.about.get("versions") or {},
        "mean_backward_passes": _mean(rows, "mean_backward_passes"),
        "training_seconds": rows[-1].get("elapsed_seconds"),
    }


def _worst_case(chosen: Sequence[Record]) -> float | None:
    """The share of the examples that withstand all attacks; None if that is not known."""
    on_all = [record for record in chosen if record.examples == chosen[0].examples]
    if len(on_all) < 2:
        return None
    correct = [record.correct for record in on_all if record.correct is not None]
    if len(correct) == len(on_all):
        return float(np.logical_and.reduce(correct).mean())
    recorded = next(record for record in chosen if record.attack == CLEAN).measured
    return recorded.get(WORST_CASE) if len(on_all) == len(chosen) else None


def _require_one_evaluation(found: Sequence[dict[str, Any] | None]) -> None:
    """Refuses runs of one setting whose figures are not of one evaluation."""
    done = [entry for entry in found if entry is not None]
    for name in dict.fromkeys(name for entry in done for name in entry["attacks"]):
        alike = {
            json.dumps([entry["examples"], _settings_of(entry["attacks"][name])], sort_keys=True)
            for entry in done
            if name in entry["attacks"]
        }
        if len(alike) > 1:
            raise UserError(
                f"the runs were not evaluated alike by {name}: {' and '.join(sorted(alike))}; "
                "repeat the sweep's own command, which evaluates what is missing"
            )


def read_settings(path: Path) -> list[dict[str, Any]]:
    """The settings that a sweep.json lists, as `gather` gives them.

    Raises:
      ValueError: the file is damaged, or is none; names it.
    """
    settings = read_json(path).get("settings")
    if not isinstance(settings, list) or not all(map(_is_setting, settings)):
        raise UserError(
            f"{path} is damaged, or of an earlier form: it does not list settings with their runs; "
            "repeat the sweep's command, which trains nothing again"
        )
    return settings


def _is_setting(entry: Any) -> bool:
    """Whether a JSON value is an entry of `gather`, as far as figures look at it."""

    def is_spread(value: Any) -> bool:
        return isinstance(value, dict) and all(
            is_number(value.get(part)) and is_finite(value[part]) for part in Spread._fields
        )

    def is_run(value: Any) -> bool:
        return isinstance(value, dict) and isinstance(value.get("folder"), str)

    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    values, accuracy, runs = (entry.get(part) for part in ("values", "accuracy", "runs"))
    return (
        isinstance(values, dict)
        and all(isinstance(value, str) for value in values.values())
        and isinstance(accuracy, dict)
        and all(map(is_spread, accuracy.values()))
        and isinstance(runs, list)
        and all(map(is_run, runs))
    )


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


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """The mean of a key; None where no row has it."""
    known = [row[key] for row in rows if row.get(key) is not None]
    return statistics.fmean(known) if known else None


def to_table(settings: Sequence[Mapping[str, Any]], centre: str = "median") -> str:
    """The settings as a Markdown table, accuracies in per cent."""
    head, rows = table_of(settings)
    lines = [
        f"Accuracy in per cent, {centre} ± sample standard deviation over the seeds; worst case: "
        "correct under every attack; backward passes per image, mean over the epochs; seconds of "
        "training with compilation and measuring.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def table_of(settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of the settings, accuracies in per cent."""
    attacks = list(dict.fromkeys(attack for entry in settings for attack in entry["accuracy"]))
    rows = []
    for entry in settings:
        cells = [entry["name"]]
        for attack in attacks:
            cells.append(_shown(entry["accuracy"].get(attack), len(entry["seeds"])))
        failed = f", {len(entry['failed'])} failed" if entry["failed"] else ""
        cells.append(f"{len(entry['seeds'])}{failed}")
        for key, form in (("mean_backward_passes", ".2f"), ("training_seconds", ".0f")):
            cells.append("" if entry[key] is None else format(entry[key], form))
        rows.append(cells)
    return ["setting", *attacks, "seeds", "backward passes", "training (s)"], rows


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
    facts = {"command": f"`{about['command']}`", **facts_of(settings, about)}
    for run, error in (pair for entry in settings for pair in entry["failed"].items()):
        facts[f"failed: {run}"] = error
    lines = [f"* {key}: {value}" for key, value in facts.items()]
    return "\n".join([to_table(settings, about["center"]), *lines]) + "\n"


def facts_of(settings: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, str]:
    """What the runs of a sweep were measured with, by name.

    Args:
      settings: of `gather`.
      about: "total_seconds", where it is known.
    """
    done = [run for entry in settings for run in entry["runs"]]
    facts = {}
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
    return facts


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
    )


def _distinct(texts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(texts))
