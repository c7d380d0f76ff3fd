"""All sections of a report about one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustjax.reports.html.about import identity
from robustjax.reports.html.accuracy import accuracy
from robustjax.reports.html.course import training
from robustjax.reports.html.elements import (
    Child,
    Markup,
    element,
    facts,
    figure,
    folded,
    heading,
    join,
    table,
)
from robustjax.reports.html.values import render, title
from robustjax.reports.recorded_scores import (
    CLEAN,
    WORST,
    format_setting,
    recorded_facts,
    recorded_scores,
)
from robustjax.runs.folder import RunFolder

CURVES = "figures/training.png"
"""What training draws of its log; a report draws the log itself."""


def headline(run: RunFolder) -> str:
    """What the run is, in a few words."""
    words = [run.flags.get(name) for name in ("method", "model", "dataset")]
    return ", ".join(word for word in words if word) or run.name


def tiles(run: RunFolder) -> Markup:
    """The two figures that matter most, and what they rest on."""
    scores = {score.name: score for score in recorded_scores(run.evaluation)}
    shown = []
    for name, label in ((CLEAN, "clean accuracy"), (WORST, "worst case over the attacks")):
        score = scores.get(name)
        if score is not None and score.accuracy is not None:
            below = "" if score.interval is None else f"95 %: {score.percent_interval()}"
            shown.append((label, join(f"{score.percent()} %", element("small", below))))
    if run.evaluation is not None:
        examples = recorded_facts(run.evaluation).get("examples")
        if isinstance(examples, int):
            shown.append(("examples", join(f"{examples:,}", element("small", _of_all(run)))))
    radius = run.flags.get("epsilon")
    if radius:
        norm = element("small", f"{run.flags.get('norm', '')} ball, in training")
        shown.append(("epsilon", join(radius, norm)))
    pairs = [element("div", element("dt", name), element("dd", value)) for name, value in shown]
    return element("dl", pairs, class_="tiles") if pairs else Markup()


def sections(run: RunFolder, level: int, anchor: str = "") -> Markup:
    """Everything about a run.

    Args:
      run: its files.
      level: of the headings.
      anchor: begins the ids of the sections.
    """
    parts: list[tuple[str, str, Child]] = [
        ("accuracy", "Accuracy", accuracy(run, level + 1)),
        ("what", "What it is", identity(run)),
        ("training", "Training", training(run)),
    ]
    if run.diagnosis is not None:
        parts.append(("diagnosis", "Diagnosis", _recorded(run.diagnosis, "checks")))
    if run.transfer is not None:
        parts.append(("transfer", "Transfer attacks", _recorded(run.transfer, "transfer")))
    others = _other_figures(run)
    if others:
        parts.append(("figures", "Figures", others))
    parts.append(("flags", "Flags", _flags(run)))
    absent = _absent(run)
    if absent:
        parts.append(("absent", "Not in this report", absent))
    return join(
        element("section", heading(level, label), content, id=anchor + name)
        for name, label, content in parts
    )


def _recorded(value: Any, key: str) -> Child:
    """The content of a file whose form is its own."""
    if isinstance(value, Mapping):
        nested = {name: part for name, part in value.items() if isinstance(part, Mapping | list)}
        single = [(title(name), render(name, part)) for name, part in value.items()
                  if name not in nested]  # fmt: skip
        return [facts(single), *(_block(name, part) for name, part in nested.items())]
    return _block(key, value)


def _block(key: str, value: Any) -> Child:
    shown = render(key, value)
    # A table says itself what it is.
    named = isinstance(shown, Markup) and "<caption>" in shown[:120]
    return shown if named else [element("p", title(key), ":"), element("div", shown)]


def _other_figures(run: RunFolder) -> list[Markup]:
    found = [
        figure(
            png.content,
            alt=f"{_in_words(png.name)}, the figure {png.name} of the run",
            caption=join(f"{_in_words(png.name)} (", element("code", png.name), ")"),
        )
        for png in run.figures
        if png.name != CURVES or not run.rows
    ]
    if run.damaged:
        names = ", ".join(run.damaged)
        found.append(element("p", f"Not shown, because they are no whole PNGs: {names}"))
    return found


def _in_words(name: str) -> str:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    words = stem.replace("_", " ").replace("-", " ").strip() or name
    return words[0].upper() + words[1:]


def _flags(run: RunFolder) -> Child:
    rows = [(element("code", f"--{name}"), element("code", value) if value else "not given")
            for name, value in run.flags.items()]  # fmt: skip
    whole = table(("flag", "value"), rows, caption="flags.txt")
    return folded(f"All {len(rows)} flags of the run", whole)


def _absent(run: RunFolder) -> Child:
    missing = []
    if run.evaluation is None:
        missing.append("no evaluation.json: the accuracies (the command stands above)")
    if not run.rows:
        missing.append("no metrics.jsonl with a complete epoch: the training curves")
    if run.diagnosis is None:
        missing.append("no diagnosis.json: checks for gradient masking (launch/diagnose.py)")
    if run.transfer is None:
        missing.append("no transfer.json: attacks made on other networks (launch/transfer.py)")
    if not any(png.name != CURVES for png in run.figures):
        missing.append("no further figures in the folder or its figures/ (launch/analyze.py)")
    if not missing:
        return None
    return [
        element("p", "The folder of the run has"),
        element("ul", [element("li", text) for text in missing]),
    ]


def _of_all(run: RunFolder) -> str:
    recorded = recorded_facts(run.evaluation)
    every, name = recorded.get("available_examples"), recorded.get("dataset")
    if not isinstance(every, int):
        return format_setting(name) if name else ""
    if every == recorded["examples"]:
        return f"all of {name}"
    return f"the first of {every:,} of {name}"
