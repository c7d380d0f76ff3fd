"""The experiments by name: listing them, reading their settings, running one into a folder.

An experiment is a module of this package with

* `SUMMARY`: one line about it,
* `Settings`: a frozen dataclass of numbers and text, all with defaults; it refuses what it cannot
  work with,
* `run(settings, output, report) -> dict`: writes its figures into the folder `output`, tells
  `report` how far it is, one line of text at a time, and returns its numbers as JSON knows them,
* `to_markdown(numbers) -> str`: the same numbers as a table.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from robustjax.arguments import did_you_mean
from robustjax.errors import UserError
from robustjax.evaluation.summary import versions
from robustjax.files import Path, write_whole
from robustjax.papers.experiments import (
    fat_unprojected,
    mart_misclassified,
    sense_examples,
    sense_three_clusters,
)
from robustjax.text import format_value, parse_literal

_EXPERIMENTS: dict[str, ModuleType] = {
    "sense_three_clusters": sense_three_clusters,
    "sense_examples": sense_examples,
    "mart_misclassified": mart_misclassified,
    "fat_unprojected": fat_unprojected,
}


def names() -> tuple[str, ...]:
    """The names of all experiments."""
    return tuple(_EXPERIMENTS)


def describe() -> str:
    """The experiments, one line each, and below each its settings with their defaults."""
    lines = []
    for name, experiment in _EXPERIMENTS.items():
        defaults = dataclasses.asdict(experiment.Settings())
        shown = " ".join(f"{key}={format_value(value)}" for key, value in defaults.items())
        lines += [f"{name:<22} {experiment.SUMMARY}", f"{'':<22}   {shown}"]
    return "\n".join(lines)


def settings(name: str, assignments: Sequence[str] = (), base: Any = None) -> Any:
    """The settings of an experiment, some of them changed.

    Args:
      name: one of `names()`.
      assignments: "setting=value" each; numbers may be fractions such as 8/255.
      base: settings that are changed; the defaults if None.

    Raises:
      ValueError: there is no such experiment or setting, or a value is not accepted.
    """
    experiment = _experiment(name)
    fields = {field.name: field for field in dataclasses.fields(experiment.Settings)}
    given = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or key not in fields:
            raise UserError(
                f"{assignment!r} sets nothing of {name}; accepted are "
                f"{', '.join(f'{field}=VALUE' for field in fields)}{did_you_mean(key, fields)}"
            )
        given[key] = _value(key, text, fields[key].type)
    return dataclasses.replace(experiment.Settings() if base is None else base, **given)


def setting_names(name: str) -> tuple[str, ...]:
    """The names of an experiment's settings.

    Raises:
      ValueError: there is no such experiment.
    """
    return tuple(field.name for field in dataclasses.fields(_experiment(name).Settings))


_FEWEST = {
    "epochs": 2,
    "selection_epochs": 4,
    "examples": 50,
    "num_examples": 200,
    "num_samples": 2000,
}
"""Settings that a try shortens, and how far at the most."""


def shortened(chosen: Any, scale: float) -> Any:
    """The settings of a try: as many epochs and examples fewer as `scale`, in (0, 1], says."""
    changes = {
        field.name: max(round(getattr(chosen, field.name) * scale), least)
        for field in dataclasses.fields(chosen)
        if (least := _FEWEST.get(field.name)) and least < getattr(chosen, field.name)
    }
    return dataclasses.replace(chosen, **changes)


def run(
    name: str,
    chosen: Any,
    output: Path,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs an experiment; its folder holds figures, NAME.json and NAME.md when it is done.

    Args:
      name: one of `names()`.
      chosen: its settings.
      output: the folder, which is made.
      report: called with one line of progress at a time.

    Returns:
      The content of NAME.json: "experiment", "settings", "numbers", "elapsed_seconds", "versions".

    Raises:
      ValueError: there is no such experiment.
    """
    experiment = _experiment(name)
    output = Path(output)
    started = time.monotonic()
    try:
        numbers = experiment.run(chosen, output, report)
        json.dumps(numbers, allow_nan=False)
    except (FloatingPointError, OverflowError, np.linalg.LinAlgError) as error:
        raise UserError(f"name={name}: with these settings nothing is found: {error}") from error
    except ValueError as error:
        if "JSON" not in str(error):
            raise
        raise UserError(f"name={name}: with these settings a number is not finite") from error
    summary = {
        "experiment": name,
        "settings": dataclasses.asdict(chosen),
        "numbers": numbers,
        "elapsed_seconds": time.monotonic() - started,
        "versions": versions(),
    }
    write_whole(output / f"{name}.json", json.dumps(summary, indent=2, allow_nan=False) + "\n")
    write_whole(output / f"{name}.md", _page(experiment, summary))
    return summary


def _page(experiment: ModuleType, summary: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{key} {format_value(value)}" for key, value in summary["settings"].items())
    return (
        f"# {experiment.SUMMARY}\n\n"
        f"{experiment.to_markdown(summary['numbers'])}\n\n"
        f"Settings: {shown}.\n"
    )


def _experiment(name: str) -> ModuleType:
    if name not in _EXPERIMENTS:
        raise UserError(
            f"there is no experiment {name!r}; accepted are {', '.join(_EXPERIMENTS)}"
            f"{did_you_mean(name, _EXPERIMENTS)}"
        )
    return _EXPERIMENTS[name]


def _value(key: str, text: str, wanted: Any) -> Any:
    value = text if wanted is str else parse_literal(text)
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted:
        kinds = {int: "a whole number", float: "a number", bool: "true or false"}
        raise UserError(f"{key}={text}: accepted is {kinds[wanted]}")
    return value
