"""Draws accuracy on corrupted images: a cell for each corruption and severity."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from robustjax.files import Path
from robustjax.reports.figures.canvas import save, write_numbers


def corruption_map(summary: Mapping[str, Any], path: Path) -> Path:
    """Draws the accuracies with their numbers inside; a .csv of the same name holds them too.

    Args:
      summary: of `evaluation.corruptions.summarize_corruptions`.
      path: of the PNG.
    """
    found = summary["corruptions"]
    names = [name if entry["in_mean"] else f"{name} *" for name, entry in found.items()]
    rows = [[100 * value for value in entry["accuracy"]] for entry in found.values()]
    if summary["mean_by_severity"]:
        names.append("mean")
        rows.append([100 * value for value in summary["mean_by_severity"]])
    severities = len(rows[0])
    figure = Figure(figsize=(6, 1.4 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rows, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            colour = "black" if value > 55 else "white"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(severities), [str(1 + column) for column in range(severities)])
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set(xlabel="severity")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title, mean = "accuracy on corrupted images", summary["mean_accuracy"]
    if mean is not None:
        title += f", mean {100 * mean:.2f} %"
    axes.set_title(title, fontsize="medium")
    figure.colorbar(image, label="accuracy (%)")
    numbers = [
        (name, severity, value, entry["in_mean"])
        for name, entry in found.items()
        for severity, value in enumerate(entry["accuracy"], 1)
    ]
    write_numbers(path, ("corruption", "severity", "accuracy", "in_mean"), numbers)
    return save(figure, path)
