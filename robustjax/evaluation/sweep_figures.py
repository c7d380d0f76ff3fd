"""Figures of sweeps: accuracy against a swept value, or the settings side by side."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from robustjax.evaluation.figures import save
from robustjax.files import Path, write_whole
from robustjax.text import parse_number

Settings = Sequence[Mapping[str, Any]]


def numeric_axis(settings: Settings) -> str | None:
    """The one swept flag whose values are all numbers, if the settings differ in nothing else."""
    names = {name for entry in settings for name in entry["values"]}
    varying = [name for name in names if len({entry["values"].get(name) for entry in settings}) > 1]
    if len(varying) != 1:
        linked = [name for name in varying if name == "epsilon"]
        if not linked:
            return None
        varying = linked
    try:
        for entry in settings:
            parse_number(entry["values"][varying[0]])
    except (KeyError, ValueError):
        return None
    return varying[0]


def accuracy_against_value(sweeps: Mapping[str, Settings], path: Path, title: str = "") -> Path:
    """Draws natural and robust accuracy against the swept value, one line a sweep and attack.

    Writes the numbers beside it, as a .csv of the same name.

    Args:
      sweeps: name -> settings of `sweep.gather`, all swept over the same flag.
      path: of the PNG.
      title: of the figure.

    Raises:
      ValueError: a sweep has no single numeric axis, or they have different ones.
    """
    axes_of = {name: numeric_axis(settings) for name, settings in sweeps.items()}
    flags = set(axes_of.values())
    if len(flags) != 1 or None in flags:
        raise ValueError(
            "--kind=sweep draws accuracy against one swept number; the sweeps have "
            + ", ".join(f"{name}: {axis or 'none or several'}" for name, axis in axes_of.items())
        )
    flag = flags.pop()
    attacks = list(
        dict.fromkeys(
            attack for settings in sweeps.values() for entry in settings for attack in
            entry["accuracy"]
        )
    )  # fmt: skip
    figure = Figure(figsize=(4.2 * len(attacks), 3.6), layout="constrained")
    panels = figure.subplots(1, len(attacks), squeeze=False)[0]
    rows = []
    for panel, attack in zip(panels, attacks, strict=True):
        every = []
        for name, settings in sweeps.items():
            points = sorted(
                (parse_number(entry["values"][flag]), entry["accuracy"][attack])
                for entry in settings
                if attack in entry["accuracy"]
            )
            values = [value for value, _ in points]
            centres = [100 * found["centre"] for _, found in points]
            deviations = [100 * found["deviation"] for _, found in points]
            panel.errorbar(values, centres, deviations, marker="o", capsize=3, label=name)
            every += values
            rows += [(name, attack, *row) for row in zip(values, centres, deviations, strict=True)]
        if min(every) > 0 and max(every) / min(every) > 100:
            panel.set_xscale("log")
        panel.set(title=attack, xlabel=flag, ylabel="accuracy (%)")
        panel.grid(alpha=0.3)
    if len(sweeps) > 1:
        panels[0].legend(fontsize="small")
    figure.suptitle(title)
    _write_numbers(path, ("sweep", "attack", flag, "accuracy", "deviation"), rows)
    return save(figure, path)


def settings_side_by_side(settings: Settings, path: Path, title: str = "") -> Path:
    """Draws the accuracies of each setting as horizontal bars, and writes the numbers beside it.

    Args:
      settings: of `sweep.gather`.
      path: of the PNG.
      title: of the figure.
    """
    attacks = list(dict.fromkeys(attack for entry in settings for attack in entry["accuracy"]))
    figure = Figure(
        figsize=(7.5, 0.9 + 0.14 * len(settings) * (len(attacks) + 1)), layout="constrained"
    )
    axes = figure.subplots()
    height = 0.85 / max(len(attacks), 1)
    rows = []
    for place, attack in enumerate(attacks):
        found = [
            (number, entry["name"], entry["accuracy"][attack])
            for number, entry in enumerate(settings)
            if attack in entry["accuracy"]
        ]
        axes.barh(
            [number + (place + 0.5) * height - 0.425 for number, _, _ in found],
            [100 * accuracy["centre"] for _, _, accuracy in found],
            height,
            xerr=[100 * accuracy["deviation"] for _, _, accuracy in found],
            error_kw={"linewidth": 0.8},
            label=attack,
        )
        rows += [
            (name, attack, 100 * accuracy["centre"], 100 * accuracy["deviation"])
            for _, name, accuracy in found
        ]
    axes.set_yticks(range(len(settings)), [entry["name"] for entry in settings])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(xlabel="accuracy (%)", xlim=(0, 100), title=title)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.4, -0.06), ncols=5)
    _write_numbers(path, ("setting", "attack", "accuracy", "deviation"), rows)
    return save(figure, path)


def _write_numbers(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_whole(path.with_suffix(".csv"), text.getvalue())
