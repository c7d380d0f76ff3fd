"""The Three Clusters of SENSE, linear classifiers and their training (sections 5.1, C.1)."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, losses
from robustjax.arguments import LARGEST_SEED, require_whole
from robustjax.errors import UserError

GRADIENTS = ("sum", "mean")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What may be changed; the attack is a ball of radius gamma · sigma in ℓ2.

    Attributes:
      p: share of the upper cluster in class 1, in [1/2, 1).
      m: height of the clusters of class 1.
      sigma: standard deviation of each coordinate.
      gamma: radius of the attack in units of sigma.
      c: the confidence that SENSE's examples keep.
      num_examples: of the training set (the authors' code; the paper does not say) and of the test
        set.
      iterations: gradient steps on all examples at once (the paper; 900 in the code).
      learning_rate: the paper's; 0.001 in the code.
      gradient: over the examples, "sum" (the code) or "mean" (Algorithm 2), with which 300
        iterations hardly move the line.
      attack_steps: of SENSE's attack. The paper says one; the code puts an example at confidence c
        exactly, which many small steps approach. With one step of Algorithm 2 nearly every step
        exceeds c and is undone, so that nothing is learned.
      seed: of the data.
    """

    p: float = 0.55
    m: float = 7.0
    sigma: float = 0.2
    gamma: float = 8.0
    c: float = 0.9
    num_examples: int = 5000
    iterations: int = 300
    learning_rate: float = 0.01
    gradient: str = "sum"
    attack_steps: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("p", 0.5, 1.0), ("c", 0.5, 1.0)):
            if not low <= getattr(self, name) < high:
                value = getattr(self, name)
                raise UserError(f"{name} is {value}; accepted are {low:g} to less than {high:g}")
        for name in ("m", "sigma", "gamma", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name} is {getattr(self, name)}; accepted are positive numbers")
        for name, least in (("num_examples", 10), ("iterations", 3), ("attack_steps", 1)):
            require_whole(name, getattr(self, name), least, 10**7)
        require_whole("seed", self.seed, most=LARGEST_SEED)
        if self.gradient not in GRADIENTS:
            raise UserError(f"gradient is {self.gradient!r}; accepted are {', '.join(GRADIENTS)}")

    @property
    def epsilon(self) -> float:
        """Radius of the attack."""
        return self.gamma * self.sigma

    @property
    def clusters(self) -> tuple[tuple[float, tuple[float, float], int], ...]:
        """Probability, centre and class of each cluster: A, B, C."""
        return (
            (self.p / 2, (1.0, self.m), 1),
            ((1 - self.p) / 2, (1.0, -self.m), 1),
            (0.5, (-1.0, 0.0), 0),
        )


def population_accuracy(settings: Settings, line: np.ndarray, radius: float) -> float:
    r"""Exact accuracy of a linear classifier under every perturbation of ℓ2 length up to a radius.

    .. math:: \sum_k \pi_k \Phi\big((y_k (b + w \cdot \mu_k) / \|w\| - r) / \sigma\big)

    over the clusters k. For the line x₁ = 0 it is Φ(1/σ − γ); appendix C.1 prints σ² for σ there.

    Args:
      settings: of the clusters.
      line: float [3], intercept b and weights w; class 1 is where b + w · x > 0.
      radius: r, 0 or more.
    """
    intercept, *weights = np.asarray(line, float)
    total = 0.0
    for share, centre, label in settings.clusters:
        distance = (2 * label - 1) * (intercept + np.dot(weights, centre)) / np.hypot(*weights)
        total += share * normal_cdf((distance - radius) / settings.sigma)
    return total


def normal_cdf(value: float) -> float:
    """Φ."""
    return math.erfc(-value / math.sqrt(2)) / 2


def measure_line(
    settings: Settings, line: np.ndarray, points: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    """Accuracies of a linear classifier, in the population and on a sample; all are exact.

    On the sample a point withstands the attack if it is further than epsilon on its side.
    """
    weights = np.asarray(line[1:], float)
    distance = (2 * labels - 1) * (line[0] + points @ weights) / np.hypot(*weights)
    return {
        "coefficients": [float(value) for value in line],
        "natural_population": population_accuracy(settings, line, 0.0),
        "robust_population": population_accuracy(settings, line, settings.epsilon),
        "natural": float(np.mean(distance > 0)),
        "robust": float(np.mean(distance > settings.epsilon)),
    }


def bayes_log_odds(settings: Settings, points: np.ndarray) -> np.ndarray:
    """Log-odds log P(class 1 | x) − log P(class 0 | x) at points [..., 2]; its sign is eq. 18."""
    upper, lower, other = (
        np.log(share) - np.sum((points - centre) ** 2, axis=-1) / (2 * settings.sigma**2)
        for share, centre, _ in settings.clusters
    )
    return np.logaddexp(upper, lower) - other


def measure_bayes(settings: Settings, points: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Accuracies of the Bayes classifier on a sample, attacked at 512 points of each ball."""
    signs = 2 * labels - 1
    worst = clean = signs * bayes_log_odds(settings, points)
    for length in settings.epsilon * np.arange(1, 9) / 8:
        for angle in 2 * np.pi * np.arange(64) / 64:
            moved = points + length * np.array([np.cos(angle), np.sin(angle)])
            worst = np.minimum(worst, signs * bayes_log_odds(settings, moved))
    return {
        "coefficients": None,
        "natural_population": None,
        "robust_population": None,
        "natural": float(np.mean(clean > 0)),
        "robust": float(np.mean(worst > 0)),
    }


def ignoring_lower_cluster(settings: Settings) -> np.ndarray:
    """The Bayes classifier of clusters A and C: x₂ = −2 x₁ / m + m / 2 − σ² log(p) / m."""
    m, sigma = settings.m, settings.sigma
    return np.array([sigma**2 * math.log(settings.p) / m - m / 2, 2 / m, 1.0])


def best_line(settings: Settings, radius: float) -> np.ndarray:
    """The linear classifier of highest population accuracy at a radius, of a fine grid of lines."""
    lines = [
        np.array([-offset, math.cos(angle), math.sin(angle)])
        for angle in np.linspace(-math.pi / 2, math.pi / 2, 181)
        for offset in np.linspace(-4, 4, 161)
    ]
    return max(lines, key=lambda line: population_accuracy(settings, line, radius))


def logistic_regression(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The natural training of the paper: logistic regression by Newton's method in float64.

    The classes are separable, so the weights would grow without end. As R's `glm`, from which the
    authors start, it stops after 25 steps, or when the deviance D changes by less than
    1e-8 · (D + 0.1).

    Returns:
      float [3], intercept and weights.
    """
    inputs = np.column_stack([np.ones(len(points)), points])
    line, previous = np.zeros(3), math.inf
    for _ in range(25):
        odds = inputs @ line
        probability = 1 / (1 + np.exp(-odds))
        weight = np.maximum(probability * (1 - probability), np.finfo(float).eps)
        scaled = inputs.T * weight
        line = line + np.linalg.solve(scaled @ inputs, inputs.T @ (labels - probability))
        deviance = 2 * np.sum(np.logaddexp(0, -(2 * labels - 1) * (inputs @ line)))
        if abs(deviance - previous) < 1e-8 * (deviance + 0.1):
            break
        previous = deviance
    return line


def logits(line: jax.Array, points: jax.Array) -> jax.Array:
    """Logits [N, 2] of the linear classifier: class 0 has none, class 1 has b + w · x."""
    odds = line[0] + points @ line[1:]
    return jnp.stack([jnp.zeros_like(odds), odds], axis=-1)


def perturb(
    settings: Settings, line: jax.Array, points: jax.Array, labels: jax.Array, *, sensible: bool
) -> jax.Array:
    """The examples [N, 2] that training sees: regular ones, or sensible ones (Algorithm 2).

    The logit margin is ascended in place of the cross-entropy: with two classes one increases with
    the other, cross-entropy −log c is the margin log((1 − c) / c), and the gradient does not vanish
    where the classifier is certain. One step of length epsilon is the exact regular example.
    """
    steps = settings.attack_steps if sensible else 1
    stop = attacks.stopping.loss_above(math.log((1 - settings.c) / settings.c))
    found = attacks.pgd(
        jax.random.key(0),
        functools.partial(logits, line),
        points,
        labels,
        attacks.ThreatModel("l2", settings.epsilon, bounds=None),
        steps=steps,
        step_size=settings.epsilon / steps,
        loss=losses.cw_margin,
        start="clean",
        stop=stop if sensible else None,
    )
    return found.images


def train(
    settings: Settings, line: np.ndarray, points: np.ndarray, labels: np.ndarray, *, sensible: bool
) -> np.ndarray:
    """Trains a linear classifier by gradient descent on the cross-entropy of perturbed examples.

    Args:
      settings: of the training.
      line: float [3], where it starts.
      points: float [N, 2].
      labels: int [N].
      sensible: whether the examples are SENSE's; R-AT's otherwise.

    Returns:
      float64 [iterations + 1, 3], the classifier before the first step and after each.
    """
    reduce = jnp.sum if settings.gradient == "sum" else jnp.mean
    clean, classes = jnp.asarray(points, jnp.float32), jnp.asarray(labels, jnp.int32)

    def objective(line, adversarial):
        return reduce(losses.cross_entropy(logits(line, adversarial), classes))

    def step(line, _):
        adversarial = perturb(settings, line, clean, classes, sensible=sensible)
        line = line - settings.learning_rate * jax.grad(objective)(line, adversarial)
        return line, line

    start = jnp.asarray(line, jnp.float32)
    _, history = jax.jit(lambda line: jax.lax.scan(step, line, length=settings.iterations))(start)
    return np.concatenate([[line], np.asarray(history, float)])
