"""Draws the matrix of a transfer: source by target."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from robustjax.files import Path
from robustjax.reports.figures.canvas import save, write_numbers


def heat_map(summary: Mapping[str, Any], path: Path) -> Path:
    """Draws the accuracies, as the papers count them, with their numbers inside.

    The .csv of the same name holds them too, and beside them the robust accuracies.

    Args:
      summary: of `summarize`.
      path: of the PNG.
    """
    targets, sources = list(summary["clean"]), list(summary["transfer"])
    rows = [[100 * summary["clean"][target]["accuracy"] for target in targets]]
    rows += [
        [100 * summary["transfer"][source][target]["accuracy"] for target in targets]
        for source in sources
    ]
    longest = max(map(len, (*sources, *targets)))
    names = 0.075 * longest
    width = max(1.9 + names + 0.66 * len(targets), 6)
    height = 1.5 + 0.42 * len(rows) + 0.6 * names
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rows, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            colour = "black" if value > 55 else "white"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
            if y and sources[y - 1] == targets[x]:
                axes.add_patch(
                    Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, fill=False, color="red", lw=1.8)
                )
    axes.axhline(0.5, color="white", linewidth=4, zorder=1)
    # A name is no formula, whatever dollar signs it has.
    axes.set_xticks(range(len(targets)), targets, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), ["clean images", *sources])
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)
    axes.set(xlabel="target", ylabel="source")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    attack = summary["attack"]
    axes.set_title(
        f"accuracy on images of {attack['name']}, {attack['norm']} ball of {attack['epsilon']:.4g} "
        "(red: white-box)",
        fontsize="medium",
        wrap=True,
    )
    figure.colorbar(image, label="accuracy (%)")
    head = ["source", "target", "accuracy", "low_95", "high_95"]
    head += ["robust_accuracy", "robust_low_95", "robust_high_95"]
    # Of clean images both are one.
    numbers = [
        ("", target, *2 * (entry["accuracy"], *entry["interval_95"]))
        for target, entry in summary["clean"].items()
    ]
    numbers += [
        (
            source,
            target,
            *(entry["accuracy"], *entry["interval_95"]),
            *(entry["robust_accuracy"], *entry["robust_interval_95"]),
        )
        for source, by_target in summary["transfer"].items()
        for target, entry in by_target.items()
    ]
    write_numbers(path, head, numbers)
    return save(figure, path)
