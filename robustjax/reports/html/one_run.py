"""All sections of a report about one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustjax import installed
from robustjax.reports.html.about import identity
from robustjax.reports.html.accuracy import accuracy
from robustjax.reports.html.course import training
from robustjax.reports.html.diagnosis import Diagnosed, diagnosis
from robustjax.reports.html.elements import Code, Commands, Facts, Figure, Table, Value, figure
from robustjax.reports.html.examples import examples
from robustjax.reports.html.values import render, title
from robustjax.reports.recorded_curves import recorded_curves
from robustjax.reports.recorded_scores import (
    CLEAN,
    WORST,
    format_setting,
    recorded_facts,
    recorded_scores,
)
from robustjax.reports.repeat_commands import first_evaluation_command
from robustjax.runs.folder import RunFolder
from robustjax.runs.names import EPSILON_CURVES

CURVES = "figures/training.png"
"""What training draws of its log; a report draws the log itself."""


def headline(run: RunFolder) -> str:
    """What the run is, in a few words."""
    words = [run.flags.get(name) for name in ("method", "model", "dataset")]
    return ", ".join(word for word in words if word) or run.name


def one_run(run: RunFolder) -> dict[str, Any]:
    """Everything about a run, as templates/run.html draws it."""
    diagnosed = diagnosis(run.diagnosis)
    return {
        "name": run.name,
        "workdir": run.workdir,
        "headline": headline(run),
        "tiles": _tiles(run, diagnosed),
        "accuracy": None if run.evaluation is None else accuracy(run.evaluation),
        "evaluate_first": Commands(first_evaluation_command(run)),
        "diagnosis": diagnosed,
        "examples": examples(
            run.examples,
            {
                score.name: score.accuracy
                for score in recorded_scores(run.evaluation)
                if score.accuracy is not None
            },
        ),
        "identity": identity(run),
        "training": training(run),
        "recorded": [
            (name, label, _recorded(content, key))
            for name, label, content, key in (
                ("diagnosis", "Diagnosis", None if diagnosed else run.diagnosis, "checks"),
                ("transfer", "Transfer attacks", run.transfer, "transfer"),
            )
            if content is not None
        ],
        "figures": _other_figures(run),
        "damaged": ", ".join(run.damaged),
        "flags": _flags(run),
        "absent": _absent(run),
    }


def _tiles(run: RunFolder, diagnosed: Diagnosed | None) -> list[tuple[str, str, str]]:
    """The figures that matter most, and what they rest on: each with a word below it."""
    scores = {score.name: score for score in recorded_scores(run.evaluation)}
    shown = []
    for name, label in ((CLEAN, "clean accuracy"), (WORST, "worst case over the attacks")):
        score = scores.get(name)
        if score is not None and score.accuracy is not None:
            below = "" if score.interval is None else f"95 %: {score.percent_interval()}"
            shown.append((label, f"{score.percent()} %", below))
    examples = recorded_facts(run.evaluation).get("examples")
    if isinstance(examples, int):
        shown.append(("examples", f"{examples:,}", _of_all(run)))
    radius = run.flags.get("epsilon")
    trained = ", in training" if run.origin is None else ""
    if radius:
        shown.append(("epsilon", radius, f"{run.flags.get('norm', '')} ball{trained}"))
    if diagnosed is not None:
        shown.append(("masked gradients", diagnosed.verdict, diagnosed.headline))
    return shown


def _recorded(value: Any, key: str) -> list[tuple[str | None, Value]]:
    """The content of a file whose form is its own."""
    if not isinstance(value, Mapping):
        return [_block(key, value)]
    nested = {name: part for name, part in value.items() if isinstance(part, Mapping | list)}
    single = [(title(name), render(name, part)) for name, part in value.items()
              if name not in nested]  # fmt: skip
    return [(None, Facts(single)), *(_block(name, part) for name, part in nested.items())]


def _block(key: str, value: Any) -> tuple[str | None, Value]:
    shown = render(key, value)
    return (None if isinstance(shown, Table) else title(key)), shown


def _other_figures(run: RunFolder) -> list[Figure]:
    # What the report draws itself, of the log and of the evaluation.
    shown = [CURVES] if run.rows else []
    shown += [EPSILON_CURVES] if recorded_curves(run.evaluation) else []
    return [
        figure(
            png.content,
            alt=f"{_in_words(png.name)}, the figure {png.name} of the run",
            caption=_in_words(png.name),
            name=png.name,
        )
        for png in run.figures
        if png.name not in shown
    ]


def _in_words(name: str) -> str:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    words = stem.replace("_", " ").replace("-", " ").strip() or name
    return words[0].upper() + words[1:]


def _flags(run: RunFolder) -> Table:
    rows = [
        (Code(f"--{name}"), Code(value) if value else "not given")
        for name, value in run.flags.items()
    ]
    return Table(("flag", "value"), rows, "flags.txt")


def _absent(run: RunFolder) -> list[str]:
    """What the folder has not, and what makes it."""
    missing = []
    if run.evaluation is None:
        missing.append("no evaluation.json: the accuracies (the command stands above)")
    if not run.rows and run.origin is None:
        missing.append("no metrics.jsonl with a complete epoch: the training curves")
    if run.diagnosis is None:
        command = installed.written("diagnose")
        missing.append(f"no diagnosis.json: checks for gradient masking ({command})")
    if run.transfer is None:
        command = installed.written("transfer")
        missing.append(f"no transfer.json: attacks made on other networks ({command})")
    if not any(png.name != CURVES for png in run.figures):
        command = installed.written("analyze")
        missing.append(f"no further figures in the folder or its figures/ ({command})")
    return missing


def _of_all(run: RunFolder) -> str:
    recorded = recorded_facts(run.evaluation)
    every, name = recorded.get("available_examples"), recorded.get("dataset")
    if not isinstance(every, int):
        return format_setting(name) if name else ""
    if every == recorded["examples"]:
        return f"all of {name}"
    return f"the first of {every:,} of {name}"
