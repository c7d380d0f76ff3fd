"""The records of an evaluation.json of a version that kept no records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from robustjax.errors import UserError
from robustjax.evaluation.summary import MEASURED, OF_ALL, WORST
from robustjax.evaluation.verdicts import wilson_interval
from robustjax.files import Path, read_json
from robustjax.runs.evaluations import CLEAN, Record, is_count, is_fraction, is_interval
from robustjax.runs.names import EVALUATION

_FOUND = ("after_each", "seconds", "warnings")


def earlier_records(
    folder: Path, report: Callable[[str], None] = lambda line: None
) -> list[Record]:
    """The records of an evaluation.json that was written before there were records.

    Args:
      folder: of the run.
      report: told, in one line, of a file that is damaged.
    """
    path = folder / EVALUATION
    if not path.exists():
        return []
    try:
        found = read_json(path)
        return _records_of_summary(found)
    except (OSError, ValueError) as error:
        said = str(error)
        report(said if str(path) in said else f"{path}: {said}")
        return []


def _records_of_summary(found: Mapping[str, Any]) -> list[Record]:
    attacks = found.get("attacks")
    checkpoint, examples = found.get("checkpoint"), found.get("examples")
    if not isinstance(attacks, dict) or not isinstance(checkpoint, dict):
        raise UserError("it is no evaluation: it has no attacks, or no checkpoint")
    data = {
        "dataset": found.get("dataset"),
        "available_examples": found.get("available_examples"),
        "own": True,
    }
    about = {key: found.get(key) for key in (*OF_ALL, "elapsed_seconds", "versions")}
    clean = {"accuracy": found.get("clean_accuracy"), "interval": found.get("interval_95")}
    worst = {key: found[key] for key in WORST if key in found}
    records = [_record(CLEAN, clean, {}, worst, examples, data, checkpoint, about)]
    for name, entry in attacks.items():
        if not isinstance(entry, dict):
            raise UserError(f"it is no evaluation: {name} is no object")
        values = {"accuracy": entry.get("robust_accuracy"), "interval": entry.get("interval_95")}
        settings = {
            key: value for key, value in entry.items() if key not in (*MEASURED, "examples")
        }
        measured = {key: value for key, value in entry.items() if key in MEASURED and key in _FOUND}
        count = entry.get("examples", examples)
        records.append(_record(name, values, settings, measured, count, data, checkpoint, about))
    return records


def _record(
    name: str,
    values: Mapping[str, Any],
    settings: Mapping[str, Any],
    measured: Mapping[str, Any],
    examples: Any,
    data: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Record:
    accuracy, interval = values["accuracy"], values["interval"]
    if not is_interval(interval) and is_fraction(accuracy) and is_count(examples):
        interval = wilson_interval(round(accuracy * examples), examples)
    content = {
        "attack": name, "settings": settings, "data": data, "checkpoint": checkpoint,
        "examples": examples, "accuracy": accuracy, "interval": interval, "measured": measured,
        "about": about,
    }  # fmt: skip
    try:
        return Record.from_content(content)
    except ValueError as error:
        raise UserError(f"it is no evaluation: {name}: {error}") from None
