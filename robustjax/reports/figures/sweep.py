"""Figures of sweeps: accuracy against a swept value, or the settings side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.arguments import did_you_mean
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.reports.figures.canvas import add_legend, line_style, save, write_numbers
from robustjax.reports.sweep import label
from robustjax.text import parse_number

Settings = Sequence[Mapping[str, Any]]


def swept_axis(settings: Settings) -> str | None:
    """The first swept flag whose values are all numbers; None if there is none."""
    for name in dict.fromkeys(name for entry in settings for name in entry["values"]):
        values = {entry["values"].get(name) for entry in settings}
        if len(values) > 1 and all(value is not None and _is_number(value) for value in values):
            return name
    return None


def accuracy_against_value(
    sweeps: Mapping[str, Settings], path: Path, title: str = "", flag: str = ""
) -> Path:
    """Draws natural and robust accuracy against a swept value, a panel for each attack.

    There is a line for each sweep, and within a sweep for each value of the other swept flags,
    except of those that change with the first, as a step size with epsilon. Bars are the sample
    standard deviation over the seeds. The value has a logarithmic axis where it spans more than
    two decades. The numbers are written beside the figure, as a .csv of the same name.

    Args:
      sweeps: name -> settings of `sweep.gather`.
      path: of the PNG.
      title: of the figure.
      flag: the swept flag; the first one with numbers if not given.

    Raises:
      ValueError: a sweep has no such flag, or the sweeps have different ones.
    """
    flag = flag or _common_axis(sweeps)
    lines = {
        (f"{name} {rest}".strip() if len(sweeps) > 1 else rest or name): entries
        for name, settings in sweeps.items()
        for rest, entries in lines_of(name, settings, flag).items()
    }
    attacks = list(
        dict.fromkeys(
            attack for entries in lines.values() for entry in entries for attack in
            entry["accuracy"]
        )
    )  # fmt: skip
    figure = Figure(figsize=(4.2 * min(len(attacks), 3), 3.6 * (1 + (len(attacks) - 1) // 3)),
                    layout="constrained")  # fmt: skip
    rows = []
    for place, attack in enumerate(attacks):
        panel = figure.add_subplot(1 + (len(attacks) - 1) // 3, min(len(attacks), 3), place + 1)
        every = []
        for number, (name, entries) in enumerate(lines.items()):
            points = sorted(
                ((parse_number(entry["values"][flag]), entry["accuracy"][attack])
                 for entry in entries if attack in entry["accuracy"]),
                key=lambda point: point[0],
            )  # fmt: skip
            values = [value for value, _ in points]
            centres = [100 * found["centre"] for _, found in points]
            deviations = [100 * found["deviation"] for _, found in points]
            panel.errorbar(
                values, centres, deviations, marker="o", capsize=3, label=name, **line_style(number)
            )
            every += values
            rows += [(name, attack, *row) for row in zip(values, centres, deviations, strict=True)]
        _scale(panel, every)
        panel.set(title=attack, xlabel=flag, ylabel="accuracy (%)")
        panel.grid(alpha=0.3)
    if len(lines) > 1:
        add_legend(figure, len(lines))
    figure.suptitle(title)
    write_numbers(path, ("line", "attack", flag, "accuracy", "deviation"), rows)
    return save(figure, path)


def _common_axis(sweeps: Mapping[str, Settings]) -> str:
    axes_of = {name: swept_axis(settings) for name, settings in sweeps.items()}
    flags = set(axes_of.values())
    flag = next(iter(flags), None)
    if len(flags) != 1 or flag is None:
        raise UserError(
            "kind=sweep draws accuracy against one swept number; the first of each sweep is "
            + ", ".join(f"{name}: {axis or 'none'}" for name, axis in axes_of.items())
        )
    return flag


def lines_of(name: str, settings: Settings, flag: str) -> dict[str, list[Mapping[str, Any]]]:
    """The settings that one line connects, by what the lines differ in."""
    for entry in settings:
        if not _is_number(entry["values"].get(flag, "")):
            hint = did_you_mean(flag, entry["values"])
            raise UserError(
                f"kind=sweep: {name} has a setting without a number for {flag!r:.100}{hint}"
            )
    swept = dict.fromkeys(other for entry in settings for other in entry["values"])
    values = {other: {entry["values"].get(other) for entry in settings} for other in swept}
    others: list[str] = []
    for other in swept:
        known = any(_follows(settings, other, first) for first in (flag, *others))
        if other != flag and len(values[other]) > 1 and not known:
            others.append(other)
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for entry in settings:
        rest = [label(other, entry["values"].get(other, "")) for other in others]
        lines.setdefault(" ".join(rest), []).append(entry)
    return lines


def _follows(settings: Settings, other: str, flag: str) -> bool:
    """Whether the value of `flag` decides that of `other`."""
    pairs = {(entry["values"].get(flag), entry["values"].get(other)) for entry in settings}
    return len(pairs) == len({value for value, _ in pairs})


def _scale(panel: Axes, values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0]
    if not positive or min(values) < 0 or max(positive) / min(positive) <= 100:
        return
    if len(positive) == len(values):
        panel.set_xscale("log")
    else:
        panel.set_xscale("symlog", linthresh=min(positive))


def _is_number(text: str) -> bool:
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


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
    add_legend(figure, len(attacks))
    write_numbers(path, ("setting", "attack", "accuracy", "deviation"), rows)
    return save(figure, path)
