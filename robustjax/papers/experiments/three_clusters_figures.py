"""Figures 4 to 6 of SENSE: classifiers of the Three Clusters."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from robustjax.files import Path
from robustjax.papers.experiments.three_clusters import (
    Settings,
    bayes_log_odds,
    ignoring_lower_cluster,
    perturb,
    population_accuracy,
)
from robustjax.reports.figures.canvas import save

SHOWN = 10.0
"""Half the width of the square of the plane that is drawn."""


def draw_lines(settings: Settings, path: Path) -> Path:
    """Draws figure 4: the Bayes classifier, x₁ = 0, and lines that ignore the lower cluster.

    The lines for different p, of which only σ² log(p) / m depends on p, can hardly be told apart.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    bayes, accurate, ignoring = figure.subplots(1, 3)
    _draw_regions(bayes, lambda points: bayes_log_odds(settings, points))
    bayes.set_title("(a) Bayes classifier")
    _draw_regions(accurate, lambda points: points[..., 0])
    accurate.set_title("(b) $x_1 = 0$")
    without = ignoring_lower_cluster(settings)
    _draw_regions(ignoring, lambda points: without[0] + points @ without[1:])
    for share, style in ((0.5, "-"), (0.7, "--"), (0.99, ":")):
        intercept, first, second = ignoring_lower_cluster(dataclasses.replace(settings, p=share))
        ends = np.array([-SHOWN, SHOWN])
        heights = -(intercept + first * ends) / second
        ignoring.plot(ends, heights, style, color="black", linewidth=1, label=f"p = {share}")
    ignoring.legend(loc="lower left", fontsize="x-small")
    ignoring.set_title("(c) without the lower cluster")
    for axes in (bayes, accurate, ignoring):
        _draw_clusters(axes, settings)
        _frame(axes)
    figure.suptitle(
        "Circles: where 99.9 % of a cluster lie, and how far the attack reaches from there "
        f"(σ = {settings.sigma:g}, m = {settings.m:g}, γ = {settings.gamma:g})",
        fontsize="medium",
    )
    return save(figure, path)


def draw_risk(settings: Settings, path: Path) -> Path:
    """Draws figure 5: the robust risk Φ(γ − 1/σ) of the line x₁ = 0 against σ, for γ = 0 to 6."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    line, deviations = np.array([0.0, 1.0, 0.0]), np.linspace(0.05, 1, 200)
    for gamma in range(7):
        risk = [
            1 - population_accuracy(dataclasses.replace(settings, sigma=sigma), line, gamma * sigma)
            for sigma in deviations
        ]
        axes.plot(deviations, risk, color=f"C{gamma}", label=f"γ = {gamma}")
    axes.axvline(settings.sigma, color="gray", linestyle=":", linewidth=1)
    axes.set(xlabel="σ", ylabel="robust risk", ylim=(0, 1), title="$f(x) = \\mathrm{sign}(x_1)$")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return save(figure, path)


def draw_training(
    settings: Settings,
    histories: Mapping[str, np.ndarray],
    points: np.ndarray,
    labels: np.ndarray,
    path: Path,
) -> Path:
    """Draws figure 6: classifiers of both trainings with the examples they are then trained on."""
    last = settings.iterations
    shown = sorted({0, last // 2, last // 2 + 1, last - 1, last})
    figure = Figure(figsize=(2.7 * len(shown), 5.8), layout="constrained")
    grid = figure.subplots(2, len(shown), squeeze=False)
    for row, (name, history) in zip(grid, histories.items(), strict=True):
        for axes, iteration in zip(row, shown, strict=True):
            line = history[iteration]
            _draw_regions(axes, functools.partial(_log_odds, line))
            adversarial = perturb(
                settings,
                jnp.asarray(line, jnp.float32),
                jnp.asarray(points, jnp.float32),
                jnp.asarray(labels),
                sensible=name == "SENSE-AT",
            )
            colours = np.where(labels == 1, "tab:blue", "tab:red")
            axes.scatter(*np.asarray(adversarial).T, s=1, c=colours, linewidths=0, zorder=3)
            _draw_clusters(axes, settings)
            _frame(axes)
            axes.set_title(f"{name}, iteration {iteration}", fontsize="medium")
    figure.suptitle("Regions of the classifier and the examples perturbed against it")
    return save(figure, path)


def _log_odds(line: np.ndarray, points: np.ndarray) -> np.ndarray:
    return line[0] + points @ line[1:]


def _draw_regions(axes: Axes, log_odds: Callable[[np.ndarray], np.ndarray]) -> None:
    ticks = np.linspace(-SHOWN, SHOWN, 401)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    axes.imshow(
        log_odds(points) > 0,
        cmap="coolwarm_r",
        vmin=-0.8,
        vmax=1.8,
        extent=(-SHOWN, SHOWN, -SHOWN, SHOWN),
        origin="lower",
    )


def _draw_clusters(axes: Axes, settings: Settings) -> None:
    inner = settings.sigma * math.sqrt(-2 * math.log(0.001))
    for _, centre, label in settings.clusters:
        colour = "tab:blue" if label else "tab:red"
        for radius, style in ((inner, "-"), (inner + settings.epsilon, "--")):
            circle = Circle(centre, radius, fill=False, color=colour, linestyle=style, linewidth=1)
            axes.add_patch(circle)


def _frame(axes: Axes) -> None:
    axes.set(xlim=(-SHOWN, SHOWN), ylim=(-SHOWN, SHOWN), aspect="equal")
    axes.tick_params(labelsize="x-small")
