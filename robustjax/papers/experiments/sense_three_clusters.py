"""SENSE's Three Clusters: what training does when no linear classifier is accurate and robust.

Standard adversarial training jumps between ignoring one cluster of class 1 and ignoring the other;
SENSE-AT stays with the line that separates the classes. Sections 5.1 and C.1, figures 4 to 6.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from robustjax import data
from robustjax.files import Path
from robustjax.papers.experiments.three_clusters import (
    Settings,
    best_line,
    ignoring_lower_cluster,
    logistic_regression,
    measure_bayes,
    measure_line,
    population_accuracy,
    train,
)
from robustjax.papers.experiments.three_clusters_figures import draw_lines, draw_risk, draw_training

SUMMARY = "SENSE, Three Clusters: linear classifiers, R-AT against SENSE-AT (figures 4 to 6)"


def run(settings: Settings, output: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Trains the three linear classifiers, measures them beside those of the theory, draws.

    Returns:
      "classifiers": name -> "coefficients" (intercept and the two weights), accuracies in the
      population and on a fresh sample, clean and against the strongest attack; "changes": name of
      the training -> how often its line tips over in the second half of the iterations.
    """
    points, labels = _sample(settings, settings.seed)
    natural = logistic_regression(points, labels)
    report("natural training: done")
    lines = {}
    for name, sensible in (("R-AT", False), ("SENSE-AT", True)):
        lines[name] = train(settings, natural, points, labels, sensible=sensible)
        found = population_accuracy(settings, lines[name][-1], 0.0)
        report(f"{name}: {settings.iterations} iterations, natural accuracy {100 * found:.1f} %")

    compared = {
        "x₁ = 0": np.array([0.0, 1.0, 0.0]),
        "Bayes classifier of A and C": ignoring_lower_cluster(settings),
        "most accurate line": best_line(settings, 0.0),
        "most robust line": best_line(settings, settings.epsilon),
        "natural training": natural,
        "R-AT": lines["R-AT"][-1],
        "R-AT, one iteration earlier": lines["R-AT"][-2],
        "SENSE-AT": lines["SENSE-AT"][-1],
        "SENSE-AT, one iteration earlier": lines["SENSE-AT"][-2],
    }
    test_points, test_labels = _sample(settings, settings.seed + 1)
    rows = {"Bayes classifier": measure_bayes(settings, test_points, test_labels)}
    for name, line in compared.items():
        rows[name] = measure_line(settings, line, test_points, test_labels)
    for draw, number in ((draw_lines, 4), (draw_risk, 5)):
        report(f"figure: {draw(settings, output / f'sense_three_clusters_figure_{number}.png')}")
    path = output / "sense_three_clusters_figure_6.png"
    report(f"figure: {draw_training(settings, lines, points, labels, path)}")
    return {
        "classifiers": rows,
        "changes": {name: changes(history) for name, history in lines.items()},
    }


def to_markdown(numbers: Mapping[str, Any]) -> str:
    """The accuracies in % as a table; those of the population are closed forms."""
    lines = [
        "| accuracy in % | natural, population | robust, population | natural, sample | "
        "robust, sample | class 1 is where |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, row in numbers["classifiers"].items():
        shown = [
            "–" if row[key] is None else f"{100 * row[key]:.2f}"
            for key in ("natural_population", "robust_population", "natural", "robust")
        ]
        line = "–" if row["coefficients"] is None else equation(row["coefficients"])
        lines.append(f"| {name} | {' | '.join(shown)} | {line} |")
    lines.append("")
    for name, count in numbers["changes"].items():
        lines.append(
            f"{name}: its line tips over {count['changes']} times in the last "
            f"{count['iterations']} iterations."
        )
    return "\n".join(lines)


def equation(line: Sequence[float]) -> str:
    """A line as text, its weights of length 1."""
    intercept, first, second = np.asarray(line) / np.hypot(line[1], line[2])
    return f"{first:.3f} x₁ {second:+.3f} x₂ {intercept:+.3f} > 0"


def changes(history: np.ndarray) -> dict[str, int]:
    """How often x₂ changes the class it speaks for in the second half of a training."""
    second = history[len(history) // 2 :, 2]
    return {
        "changes": int(np.sum(np.sign(second[1:]) != np.sign(second[:-1]))),
        "iterations": len(second) - 1,
    }


def _sample(settings: Settings, seed: int) -> tuple[np.ndarray, np.ndarray]:
    points, labels = data.three_clusters(
        seed, settings.num_examples, p=settings.p, m=settings.m, sigma=settings.sigma
    )
    return points.astype(float), labels
