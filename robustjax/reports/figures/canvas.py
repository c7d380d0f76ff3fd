"""Figures of a run, drawn from its log; nothing here needs a display."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from robustjax.arguments import require_finite, shown
from robustjax.errors import UserError
from robustjax.files import Path, write_whole

Row = Mapping[str, Any]

_CLEAN, _ROBUST = "tab:blue", "tab:orange"


def training_curves(rows: Sequence[Row], path: Path, title: str = "") -> Path:
    """Draws accuracy and loss against the epoch.

    Args:
      rows: of metrics.jsonl, at least one.
      path: of the PNG to write; its folder is made.
      title: of the figure.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, loss = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for part, style, label in (("holdout", "-", "hold-out"), ("train", "--", "train")):
        for kind, colour in (("clean", _CLEAN), ("robust", _ROBUST)):
            values = [row[f"{part}_{kind}_accuracy"] for row in rows]
            if None not in values:
                percent = [100 * value for value in values]
                accuracy.plot(epochs, percent, style, color=colour, label=f"{label}, {kind}")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(0, 100))
    accuracy.legend(fontsize="small")
    loss.plot(epochs, [row["loss"] for row in rows], color="tab:gray")
    loss.set(xlabel="epoch", ylabel="training loss")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.margins(x=0.02)
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle(title)
    return save(figure, path)


def compare_runs(accuracies: Mapping[str, Mapping[str, float]], path: Path, title: str) -> Path:
    """Draws the accuracies of several runs as groups of bars.

    Args:
      accuracies: run -> attack -> accuracy in [0, 1]; every run has the same attacks.
      path: of the PNG to write; its folder is made.
      title: of the figure.

    Raises:
      ValueError: there is no run, the runs have different attacks, or an accuracy is none.
    """
    _check_accuracies(accuracies)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    attacks = list(next(iter(accuracies.values())))
    width = 0.8 / len(accuracies)
    for position, (run, values) in enumerate(accuracies.items()):
        places = [group + (position + 0.5) * width - 0.4 for group in range(len(attacks))]
        percent = [100 * values[attack] for attack in attacks]
        bars = axes.bar(places, percent, width * 0.95, label=run)
        axes.bar_label(bars, fmt="%.1f", fontsize="small")
    axes.set_xticks(range(len(attacks)), attacks)
    axes.set(ylabel="accuracy (%)", ylim=(0, 109), title=title)
    axes.legend(loc="upper right", fontsize="small")
    return save(figure, path)


def _check_accuracies(accuracies: Mapping[str, Mapping[str, float]]) -> None:
    if not isinstance(accuracies, Mapping) or not accuracies:
        raise UserError(
            f"accuracies={shown(accuracies)}: accepted are those of at least one run, as "
            "{'trades': {'clean': 0.95, 'PGD-20': 0.7}}"
        )
    first, *_ = accuracies.values()
    for run, values in accuracies.items():
        if set(values) != set(first) or not values:
            raise UserError(
                f"accuracies of {run}={shown(list(values))}: accepted are those of the first "
                f"run's attacks, {shown(list(first))}"
            )
        for attack, accuracy in values.items():
            require_finite(f"accuracy of {run} under {attack}", accuracy, 0, 1)


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as a PNG, whole or not at all."""
    for text in figure.findobj(Text):
        # Dollar signs in the name of a run or a class are no formula.
        if "$" in text.get_text():
            try:
                MathTextParser("agg").parse(text.get_text())
            except ValueError:
                text.set_parse_math(False)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return write_whole(path, content.getvalue())


def write_numbers(path: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Writes the numbers of a figure beside it, as a .csv of the same name.

    Args:
      path: of the figure.
      head: names of the columns.
      rows: as long as `head` each.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return write_whole(path.with_suffix(".csv"), text.getvalue())


def line_style(number: int) -> dict[str, Any]:
    """Colour and dashes of a line, different for the first 40."""
    return {"color": f"C{number % 10}", "linestyle": ("-", "--", ":", "-.")[number // 10 % 4]}


_LETTERS_AN_INCH = 10
"""Of a title, about; it is broken into lines that are not wider than the figure."""


def add_title(figure: Figure, text: str) -> None:
    """Puts a title over all panels, in as many lines as it needs."""
    figure.suptitle(textwrap.fill(text, int(figure.get_figwidth() * _LETTERS_AN_INCH)))


def add_legend(figure: Figure, lines: int) -> None:
    """Puts one legend for all panels of a figure below them.

    Args:
      figure: whose first panel has all the lines.
      lines: how many there are.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    inches = 0.6 + 0.08 * max(map(len, labels))
    columns = max(1, min(lines, int(figure.get_figwidth() / inches)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
    extra = 0.2 * -(-lines // columns)
    figure.set_figheight(figure.get_figheight() + extra)
