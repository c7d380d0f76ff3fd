"""The figure of a diagnosis of gradient masking: accuracies against the strength of attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustjax.diagnosis.findings import PASS, SUSPICIOUS, UNDECIDED
from robustjax.files import Path
from robustjax.reports.figures.canvas import save, write_numbers

_COLOURS = {PASS: "tab:green", UNDECIDED: "tab:orange", SUSPICIOUS: "tab:red"}

Points = list[tuple[str, str | float, float]]
"""Panel, place on its axis, value."""


def draw_diagnosis(summary: Mapping[str, Any], path: Path) -> Path:
    """Draws accuracy and loss against steps, accuracy against restarts, epsilon and attack.

    Args:
      summary: of `masking_report.summarize`.
      path: of the PNG; the numbers are written beside it, as a .csv of the same name.

    Source of the form: SENSE (Kim & Wang, 2019), figures 8 and 9; Carlini et al. (2019).
    """
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    panels = figure.subplots(2, 3)
    numbers = [
        *_steps(panels[0, 0], summary),
        *_loss(panels[0, 1], summary),
        *_epsilon(panels[0, 2], summary),
        *_restarts(panels[1, 0], summary),
        *_attacks(panels[1, 1], summary),
    ]
    _verdicts(panels[1, 2], summary)
    for axes in panels.flat[:5]:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    attacks = summary["attacks"]
    title = (
        f"{summary['model']} on {summary['dataset']}, {summary['method']}; {attacks['norm']} ball "
        f"of {attacks['epsilon']:.4g}, {summary['examples']} examples"
    )
    figure.suptitle(title, parse_math=False)
    write_numbers(path, ("panel", "at", "value"), numbers)
    return save(figure, path)


def _evidence(summary: Mapping[str, Any], name: str) -> dict[str, float]:
    return next(check["evidence"] for check in summary["checks"] if check["name"] == name)


def _steps(axes: Axes, summary: Mapping[str, Any]) -> Points:
    curves = summary["curves"]
    steps, accuracy = curves["steps"], [100 * value for value in curves["accuracy"]]
    fgsm = 100 * _evidence(summary, "noise, FGSM, PGD in order")["fgsm"]
    axes.plot(steps, accuracy, marker=".", label="PGD")
    axes.axhline(100 * summary["clean_accuracy"], color="gray", ls=":", label="clean")
    axes.axhline(fgsm, color="tab:orange", ls="--", label="FGSM")
    _scale_of_steps(axes, steps)
    axes.set(ylabel="accuracy (%)", ylim=(-2, 102), title="more steps")
    axes.legend(fontsize="small")
    return [("accuracy against steps", *point) for point in zip(steps, accuracy, strict=True)]


def _loss(axes: Axes, summary: Mapping[str, Any]) -> Points:
    steps, quantiles = summary["curves"]["steps"], summary["curves"]["loss_quantiles_10_50_90"]
    axes.set(ylabel="cross-entropy", title="loss (median, 10 to 90 %)")
    _scale_of_steps(axes, steps)
    if not quantiles:
        return []
    low, middle, high = np.array(quantiles).T
    axes.plot(steps, middle, marker=".", color="tab:purple")
    axes.fill_between(steps, low, high, color="tab:purple", alpha=0.2, linewidth=0)
    return [
        (f"loss against steps, {name} %", step, value)
        for name, values in (("10", low), ("50", middle), ("90", high))
        for step, value in zip(steps, values.tolist(), strict=True)
    ]


def _epsilon(axes: Axes, summary: Mapping[str, Any]) -> Points:
    epsilons = [0.0, *summary["curves"]["epsilons"]]
    values = [summary["clean_accuracy"], *summary["curves"]["accuracy_at_epsilon"]]
    accuracy = [100 * value for value in values]
    radius = summary["attacks"]["epsilon"]
    axes.plot(epsilons, accuracy, marker=".")
    axes.axvline(radius, color="gray", ls=":", label=f"epsilon {radius:.4g}")
    axes.set_xscale("symlog", linthresh=radius, linscale=1)
    ticks = [0, radius, epsilons[-1]]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="epsilon", ylabel="accuracy (%)", ylim=(-2, 102), title="larger epsilon")
    axes.legend(fontsize="small")
    return [("accuracy against epsilon", *point) for point in zip(epsilons, accuracy, strict=True)]


def _restarts(axes: Axes, summary: Mapping[str, Any]) -> Points:
    accuracy = [100 * value for value in _evidence(summary, "restarts").values()]
    counts = list(range(1, len(accuracy) + 1))
    axes.plot(counts, accuracy, marker="o")
    steps = summary["attacks"]["attack_steps"]
    axes.set(xlabel=f"restarts of PGD-{steps}", ylabel="accuracy (%)", title="more restarts")
    axes.set_ylim(max(min(accuracy) - 10, -2), min(max(accuracy) + 10, 102))
    axes.locator_params(axis="x", integer=True)
    return [("accuracy against restarts", *point) for point in zip(counts, accuracy, strict=True)]


def _attacks(axes: Axes, summary: Mapping[str, Any]) -> Points:
    steps = summary["attacks"]["attack_steps"]
    single = _evidence(summary, "noise, FGSM, PGD in order")
    losses = _evidence(summary, "a loss that does not saturate")
    boxes = _evidence(summary, "black boxes")
    bars = {
        "clean": summary["clean_accuracy"],
        "random search": boxes["random search"],
        "Square": boxes.get("Square"),
        "transfer": boxes.get("transfer"),
        "FGSM": single["fgsm"],
        f"PGD-{steps}": losses["cross_entropy"],
        "margin": losses["PGD on the margin"],
        "DLR": losses.get("APGD on the DLR loss"),
        "PGD, all": boxes["white_box"],
        "worst case": _evidence(summary, "all attacks together")["worst_case"],
    }
    bars = {name: 100 * value for name, value in bars.items() if value is not None}
    black = ("clean", "random search", "Square", "transfer")
    colours = ["tab:gray" if name in black else "tab:blue" for name in bars]
    drawn = axes.barh(list(bars), list(bars.values()), color=colours)
    axes.bar_label(drawn, fmt="%.1f", fontsize="small", padding=2)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy (%)", xlim=(0, 115), title="attacks (grey: without gradients)")
    return [("accuracy under attack", *point) for point in bars.items()]


def _verdicts(axes: Axes, summary: Mapping[str, Any]) -> None:
    axes.axis("off")
    axes.set_title(f"verdict: {summary['verdict']}")
    for place, check in enumerate(summary["checks"]):
        mark = check["verdict"]
        colour = _COLOURS[mark]
        y = 0.97 - place * 0.97 / len(summary["checks"])
        axes.text(0.02, y, mark, color=colour, transform=axes.transAxes, va="top", fontsize=9.5)
        axes.text(0.3, y, check["name"], transform=axes.transAxes, va="top", fontsize=9.5)


def _scale_of_steps(axes: Axes, steps: Sequence[int]) -> None:
    axes.set_xscale("symlog", linthresh=1)
    powers = [10**power for power in range(10) if 10**power <= steps[-1]]
    axes.set_xticks([0, *powers], ["0", *map(str, powers)])
    axes.set(xlabel="steps of PGD", xlim=(-0.2, 1.4 * steps[-1]))
    axes.minorticks_off()
