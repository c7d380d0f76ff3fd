"""Examples 1 and 2 of SENSE: the risks of known classifiers, in closed form and by Monte Carlo.

Two classes lie left and right of 1/2 in the unit square. In Example 2 only nine small squares of it
are ever observed, and a classifier may be wrong wherever its risk does not look.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from robustjax.arguments import LARGEST_SEED, require_whole
from robustjax.errors import UserError
from robustjax.files import Path

SUMMARY = "SENSE, Examples 1 and 2: closed-form risks against Monte Carlo estimates (figure 2)"

SIDE = 1 / 6
"""Side of the nine observed squares, the paper's α; their distance is the same."""

Classifier = Callable[[np.ndarray], np.ndarray]
"""Maps points [..., 2] to bool [...]: whether class 1 is predicted."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be changed.

    Attributes:
      p: probability of class 1, in (1/2, 1).
      epsilon: radius of the ℓ∞ ball, in (0, 1/24]; Example 2 assumes at most a quarter of a side.
      num_samples: drawn from the whole square; about a quarter of them is observed in Example 2.
      seed: of the draws.
    """

    p: float = 0.7
    epsilon: float = 0.04
    num_samples: int = 400_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 < self.p < 1:
            raise UserError(f"p is {self.p}; accepted are numbers between 1/2 and 1")
        if not 0 < self.epsilon <= SIDE / 4:
            raise UserError(f"epsilon is {self.epsilon}; accepted are numbers in (0, 1/24]")
        require_whole("num_samples", self.num_samples, 100, 10**8)
        require_whole("seed", self.seed, most=LARGEST_SEED)


class Quantity(NamedTuple):
    """One line of the table.

    Attributes:
      closed_form: derived for this library.
      printed: what the paper prints, None where it prints nothing.
      estimate: Monte Carlo mean.
      standard_error: of the estimate.
    """

    closed_form: float
    printed: float | None
    estimate: float
    standard_error: float


def run(settings: Settings, output: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Estimates every risk, and draws the classifiers of Example 2.

    Returns:
      quantity -> its `Quantity` as a dictionary.
    """
    report(f"{settings.num_samples} samples")
    estimates = estimate(settings)
    closed, printed = closed_forms(settings), printed_forms(settings)
    found = {
        name: Quantity(closed[name], printed.get(name), *estimates[name])._asdict()
        for name in closed
    }
    path = draw_classifiers(settings, output / "sense_examples_figure_2.png")
    report(f"figure: {path}")
    return found


def to_markdown(numbers: Mapping[str, Mapping[str, Any]]) -> str:
    """The quantities as a table; the last column counts standard errors from the closed form."""
    lines = [
        "| quantity | closed form | printed in the paper | Monte Carlo | standard error | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in numbers.items():
        printed = "–" if row["printed"] is None else f"{row['printed']:.5f}"
        difference = row["estimate"] - row["closed_form"]
        errors = f"{difference / row['standard_error']:+.1f}" if row["standard_error"] else "–"
        lines.append(
            f"| {name} | {row['closed_form']:.5f} | {printed} | {row['estimate']:.5f} "
            f"| {row['standard_error']:.5f} | {errors} |"
        )
    return "\n".join(lines)


def closed_forms(settings: Settings) -> dict[str, float]:
    r"""The risks of both examples, for :math:`\alpha = 1/6` and :math:`\epsilon \le \alpha / 4`.

    Class 0 has density 2(1 − p) on its half, class 1 has 2p. A risk is an area times its density:

    * Bayes classifier, Example 1: attacked across the border from both sides, in strips of width ε.
    * Robust classifier, border at 1/2 − ε: class 0 is wrong on a strip of width ε, and attacked on
      one of width 2ε; class 1 never. A sensible attack finds the same points of class 0
      without leaving their half.
    * Example 2: the nine squares, grown by ε in ℓ∞, cover 9(α + 2ε)². What is wrong outside weighs
      the same whatever p is, because both halves are covered alike. A strip of width w at the
      border crosses three (grown) squares; observed points are four times as dense.

    Source: Kim and Wang, Examples 1 and 2 and appendices B.1 and B.2.
    """
    p, epsilon = settings.p, settings.epsilon
    missed = 1 - p
    outside = 1 - 9 * (SIDE + 2 * epsilon) ** 2
    inside = 2 * missed * 3 * (SIDE + 2 * epsilon) * epsilon
    return {
        "1: standard risk, Bayes": 0.0,
        "1: robust risk, Bayes": 2 * epsilon,
        "1: sensible risk, Bayes": 0.0,
        "1: standard risk, robust": 2 * missed * epsilon,
        "1: robust risk, robust": 4 * missed * epsilon,
        "1: sensible risk, robust": 4 * missed * epsilon,
        "1: robust risk, Bayes minus robust": 2 * epsilon - 4 * missed * epsilon,
        "2: standard risk, worst natural": 1 - 9 * SIDE**2,
        "2: standard risk, worst sensible": outside,
        "2: standard risk, worst robust": outside + inside,
        "2: standard risk inside the grown squares, worst robust": inside,
        "2: observed standard risk, worst natural": 0.0,
        "2: observed standard risk, worst sensible": 0.0,
        "2: observed standard risk, worst robust": 8 * missed * 3 * SIDE * epsilon,
        "2: observed robust risk, Bayes": 8 * 3 * SIDE * epsilon,
        "2: observed robust risk, worst robust": 8 * missed * 3 * SIDE * 2 * epsilon,
        "2: observed sensible risk, worst sensible": 0.0,
        "2: observed sensible risk, worst robust": 8 * missed * 3 * SIDE * 2 * epsilon,
    }


def printed_forms(settings: Settings) -> dict[str, float]:
    """The same quantities as the paper prints them.

    Appendix B.2 has a strip of width 2ε for the worst robust classifier's standard risk inside the
    grown squares. A strip of that width is what can be attacked; what is wrong is half of it.
    """
    p, epsilon = settings.p, settings.epsilon
    grown = min(SIDE + 2 * epsilon, 2 * SIDE)
    return {
        "1: standard risk, Bayes": 0.0,
        "1: robust risk, Bayes": 2 * epsilon,
        "1: sensible risk, Bayes": 0.0,
        "1: standard risk, robust": (1 - p) * (2 * epsilon),
        "1: robust risk, robust": (1 - p) * (4 * epsilon),
        "1: robust risk, Bayes minus robust": epsilon * (4 * p - 2),
        "2: standard risk, worst natural": 3 / 4,
        "2: standard risk, worst sensible": max(0, 3 / 4 - 9 * (4 * epsilon**2 + 2 / 3 * epsilon)),
        "2: standard risk inside the grown squares, worst robust": (
            3 * grown * (1 - p) * min(2 * epsilon, 0.5) / 0.5
        ),
        "2: observed standard risk, worst natural": 0.0,
        "2: observed standard risk, worst sensible": 0.0,
    }


def bayes(points: np.ndarray) -> np.ndarray:
    """The Bayes classifier: the side of 1/2."""
    return points[..., 0] > 0.5


def robust(epsilon: float) -> Classifier:
    """The classifier of least robust risk in Example 1: the border moves into the rarer class."""
    return lambda points: points[..., 0] > 0.5 - epsilon


def observed(points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Whether points [..., 2] lie in the nine squares, grown by a margin in ℓ∞; bool [...]."""
    period = 2 * SIDE
    to_centre = np.abs(points % period - SIDE)
    return np.all(to_centre <= SIDE / 2 + margin, axis=-1)


def wrong_outside(inside: Classifier, margin: float) -> Classifier:
    """A classifier that opposes the Bayes classifier outside the nine squares grown by a margin."""
    return lambda points: np.where(observed(points, margin), inside(points), ~bayes(points))


def draw(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Points float64 [N, 2] of the whole square and their classes bool [N]."""
    generator = np.random.default_rng(settings.seed)
    labels = generator.uniform(size=settings.num_samples) < settings.p
    points = generator.uniform(size=(settings.num_samples, 2))
    points[:, 0] = (points[:, 0] + labels) / 2
    return points, labels


def attacked(
    classifier: Classifier,
    points: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    *,
    sensible: bool = False,
) -> np.ndarray:
    """The 0-1 loss [N] of the worst of 25 points of the ball, its corners and centre among them.

    All classifiers here change along lines parallel to the axes that lie at least ε apart, so that
    no point of the ball is worse than those 25.

    Args:
      classifier: attacked.
      points: float [N, 2].
      labels: bool [N].
      epsilon: radius in ℓ∞.
      sensible: only points where the Bayes classifier is right may be submitted.
    """
    # A hair inside the ball, which a sum in floating point would leave.
    steps = epsilon * (1 - 1e-9) * np.linspace(-1, 1, 5)
    fooled = np.zeros(len(points), bool)
    for first in steps:
        for second in steps:
            moved = points + np.array([first, second])
            wrong = classifier(moved) != labels
            fooled |= wrong & (bayes(moved) == labels) if sensible else wrong
    return fooled


def estimate(settings: Settings) -> dict[str, tuple[float, float]]:
    """Monte Carlo mean and standard error of every quantity of `closed_forms`."""
    points, labels = draw(settings)
    epsilon = settings.epsilon
    kept = observed(points)
    seen = points[kept], labels[kept]
    least_robust = robust(epsilon)
    worst_natural = wrong_outside(bayes, 0)
    worst_sensible = wrong_outside(bayes, epsilon)
    worst_robust = wrong_outside(least_robust, epsilon)
    bayes_attacked = attacked(bayes, points, labels, epsilon)
    robust_attacked = attacked(least_robust, points, labels, epsilon)
    robust_wrong = worst_robust(points) != labels
    indicators = {
        "1: standard risk, Bayes": bayes(points) != labels,
        "1: robust risk, Bayes": bayes_attacked,
        "1: sensible risk, Bayes": attacked(bayes, points, labels, epsilon, sensible=True),
        "1: standard risk, robust": least_robust(points) != labels,
        "1: robust risk, robust": robust_attacked,
        "1: sensible risk, robust": attacked(least_robust, points, labels, epsilon, sensible=True),
        "1: robust risk, Bayes minus robust": bayes_attacked * 1.0 - robust_attacked,
        "2: standard risk, worst natural": worst_natural(points) != labels,
        "2: standard risk, worst sensible": worst_sensible(points) != labels,
        "2: standard risk, worst robust": robust_wrong,
        "2: standard risk inside the grown squares, worst robust": (
            robust_wrong & observed(points, epsilon)
        ),
        "2: observed standard risk, worst natural": worst_natural(seen[0]) != seen[1],
        "2: observed standard risk, worst sensible": worst_sensible(seen[0]) != seen[1],
        "2: observed standard risk, worst robust": worst_robust(seen[0]) != seen[1],
        "2: observed robust risk, Bayes": attacked(bayes, *seen, epsilon),
        "2: observed robust risk, worst robust": attacked(worst_robust, *seen, epsilon),
        "2: observed sensible risk, worst sensible": (
            attacked(worst_sensible, *seen, epsilon, sensible=True)
        ),
        "2: observed sensible risk, worst robust": (
            attacked(worst_robust, *seen, epsilon, sensible=True)
        ),
    }
    return {
        name: (float(np.mean(values)), float(np.std(values) / math.sqrt(len(values))))
        for name, values in indicators.items()
    }


def draw_classifiers(settings: Settings, path: Path) -> Path:
    """Draws what figure 2 shows: the observed squares, and the three worst classifiers."""
    # Here, so that the paper's list, which names the closed forms above, needs nothing that draws.
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from robustjax.reports.figures.canvas import save

    epsilon = settings.epsilon
    panels = {
        "(a) Bayes classifier": bayes,
        "(b) worst natural": wrong_outside(bayes, 0),
        "(c) worst robust": wrong_outside(robust(epsilon), epsilon),
        "(d) worst sensible": wrong_outside(bayes, epsilon),
    }
    middles = (np.arange(600) + 0.5) / 600
    points = np.stack(np.meshgrid(middles, middles), axis=-1)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (title, classifier) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        axes.imshow(
            classifier(points),
            cmap="coolwarm_r",
            vmin=-0.6,
            vmax=1.6,
            extent=(0, 1, 0, 1),
            origin="lower",
            interpolation="none",
        )
        for column in range(3):
            for row in range(3):
                corner = (SIDE / 2 + 2 * SIDE * column, SIDE / 2 + 2 * SIDE * row)
                axes.add_patch(Rectangle(corner, SIDE, SIDE, fill=False, linewidth=0.8))
        axes.axvline(0.5, color="black", linestyle=":", linewidth=0.8)
        axes.set(title=title, xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), xlabel="$x_1$")
    figure.suptitle(
        f"SENSE, Example 2, ε = {epsilon:g}: class 1 is predicted where it is blue; "
        "only the outlined squares are observed"
    )
    return save(figure, path)
