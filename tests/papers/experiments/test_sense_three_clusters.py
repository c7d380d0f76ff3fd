"""Three Clusters: risks against samples and the paper, training against NumPy in float64."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data
from robustjax.papers.experiments import sense_three_clusters as experiment
from robustjax.papers.experiments import three_clusters as clusters
from robustjax.papers.experiments.three_clusters import Settings

VERTICAL = np.array([0.0, 1.0, 0.0])
TILTED = np.array([0.7, 2.0, 1.1])
# A small set needs a larger step to be trained as far.
SMALL = Settings(num_examples=200, iterations=60, learning_rate=0.1, attack_steps=20)


def sample(settings, seed=5, num_examples=40_000):
    points, labels = data.three_clusters(
        seed, num_examples, p=settings.p, m=settings.m, sigma=settings.sigma
    )
    return points.astype(float), labels


def test_the_papers_numbers_for_the_vertical_line():
    settings = Settings()
    natural = 1 - clusters.population_accuracy(settings, VERTICAL, 0)
    robust = 1 - clusters.population_accuracy(settings, VERTICAL, settings.epsilon)
    assert natural == pytest.approx(2.866516e-7, rel=1e-5)  # Φ(−5) = Φ(−1/σ)
    assert robust == pytest.approx(0.99865, abs=1e-5)  # Φ(3) = Φ(γ − 1/σ), "99.8 %" in figure 4
    # With σ² in the place of σ, as printed, the line would withstand nearly every attack.
    assert clusters.normal_cdf(8 - 1 / settings.sigma**2) < 1e-60


@pytest.mark.parametrize("line", [VERTICAL, TILTED, np.array([-3.4, 0.3, 1.0])])
@pytest.mark.parametrize("sigma", [0.2, 1.5])
def test_population_accuracy_is_that_of_a_large_sample(line, sigma):
    settings = Settings(sigma=sigma, gamma=0.9)
    points, labels = sample(settings)
    found = clusters.measure_line(settings, line, points, labels)
    for kind, radius in (("natural", 0), ("robust", settings.epsilon)):
        # The worst case, point by point: epsilon straight towards the line.
        towards = -(2 * labels - 1)[:, None] * line[1:] / np.sqrt((line[1:] ** 2).sum())
        odds = (points + radius * towards) @ line[1:] + line[0]
        share = np.mean((odds > 0) == labels)
        assert found[kind] == share
        population = found[f"{kind}_population"]
        deviation = math.sqrt(population * (1 - population) / len(labels))
        assert abs(share - population) <= 4 * deviation + 1e-4


def test_bayes_classifier_is_the_likelier_class_and_robust():
    settings = Settings(sigma=1.5, p=0.8)
    points = np.random.default_rng(0).normal(size=(500, 2)) * 4

    def density(centre):
        squares = ((points - np.array(centre)) ** 2).sum(axis=1)
        return np.exp(-squares / (2 * 1.5**2))

    expected = 0.8 * density((1, 7)) + 0.2 * density((1, -7)) > density((-1, 0))
    assert ((clusters.bayes_log_odds(settings, points) > 0) == expected).all()
    assert 0.1 < expected.mean() < 0.9
    found = clusters.measure_bayes(Settings(), *sample(Settings(), num_examples=2000))
    assert found["natural"] == found["robust"] == 1  # "R_adv < 0.001" in figure 4
    # 20σ reach further than half of the √53 between two clusters.
    wide = Settings(gamma=20)
    assert clusters.measure_bayes(wide, *sample(wide, num_examples=500))["robust"] < 0.2


def test_line_without_the_lower_cluster_is_where_two_densities_meet():
    settings = Settings(p=0.55, sigma=0.9)
    intercept, first, second = clusters.ignoring_lower_cluster(settings)
    for x in (-2.0, 0.0, 3.0):
        y = -(intercept + first * x) / second
        upper = 0.55 * math.exp(-((x - 1) ** 2 + (y - 7) ** 2) / (2 * 0.81))
        other = math.exp(-((x + 1) ** 2 + y**2) / (2 * 0.81))
        assert upper == pytest.approx(other, rel=1e-9)


def test_best_lines_are_those_that_the_paper_names():
    settings = Settings()
    accurate = clusters.best_line(settings, 0)
    assert np.degrees(math.atan2(accurate[2], accurate[1])) == pytest.approx(0, abs=1)
    robust = clusters.best_line(settings, settings.epsilon)
    # Only the lower cluster, a share (1 − p) / 2, is lost.
    found = clusters.population_accuracy(settings, robust, settings.epsilon)
    assert found == pytest.approx(1 - 0.45 / 2, abs=1e-3)


def test_logistic_regression_is_stationary_where_there_is_a_maximum():
    points, labels = sample(Settings(sigma=1.5), num_examples=500)
    line = clusters.logistic_regression(points, labels)
    inputs = np.column_stack([np.ones(500), points])
    residual = labels - 1 / (1 + np.exp(-inputs @ line))
    np.testing.assert_allclose(inputs.T @ residual, 0, atol=1e-3)
    assert clusters.measure_line(Settings(), line, points, labels)["natural"] > 0.6


def by_hand(settings, line, points, labels, *, sensible, steps=None):
    """Gradient descent in float64 with the exact examples; SENSE's rounded down to whole steps."""
    signs, history = 2 * labels - 1, [line]
    for _ in range(settings.iterations):
        weights = line[1:]
        norm = math.sqrt((weights**2).sum())
        margin = signs * (points @ weights + line[0])
        length = np.full(len(points), settings.epsilon)
        if sensible:
            room = (margin - math.log(settings.c / (1 - settings.c))) / norm
            length = np.clip(room, 0, settings.epsilon)
            step = settings.epsilon / steps
            length = np.floor(length / step + 1e-4) * step
        moved = points - (signs * length)[:, None] * weights / norm
        slope = signs / (1 + np.exp(np.minimum(margin - length * norm, 500)))
        gradient = slope @ np.column_stack([np.ones(len(points)), moved])
        scale = settings.learning_rate / (len(points) if settings.gradient == "mean" else 1)
        line = line + scale * gradient
        history.append(line)
    return np.array(history)


@pytest.mark.parametrize(("sensible", "gradient"), [(False, "sum"), (False, "mean"), (True, "sum")])
def test_training_is_gradient_descent_on_the_worst_examples(sensible, gradient):
    rate = 0.02 if gradient == "sum" else 2.0
    settings = dataclasses.replace(SMALL, iterations=6, gradient=gradient, learning_rate=rate)
    points, labels = sample(settings, num_examples=100)
    found = clusters.train(settings, TILTED, points, labels, sensible=sensible)
    expected = by_hand(settings, TILTED, points, labels, sensible=sensible, steps=20)
    assert found.shape == (7, 3)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert np.abs(expected[-1] - TILTED).max() > 0.3


def test_confident_points_are_attacked_though_their_cross_entropy_has_no_gradient():
    line = 100 * TILTED
    points, labels = sample(SMALL, num_examples=50)
    moved = clusters.perturb(
        SMALL,
        jnp.asarray(line, jnp.float32),
        jnp.asarray(points, jnp.float32),
        jnp.asarray(labels),
        sensible=False,
    )
    distance = np.linalg.norm(np.asarray(moved) - points, axis=1)
    np.testing.assert_allclose(distance, SMALL.epsilon, rtol=1e-4)


def test_a_line_that_tips_over_is_counted():
    history = np.zeros((9, 3))
    history[:, 2] = [1, -1, 1, -1, 1, 1, -1, -1, 1]
    assert experiment.changes(history) == {"changes": 2, "iterations": 4}


def test_run_shows_what_the_paper_shows(tmp_path):
    said = []
    numbers = experiment.run(SMALL, tmp_path, said.append)
    assert numbers["changes"]["R-AT"]["changes"] >= 25
    assert numbers["changes"]["SENSE-AT"]["changes"] == 0
    rows = numbers["classifiers"]
    ignored = {1 - 0.55 / 2, 1 - 0.45 / 2}
    for name in ("R-AT", "R-AT, one iteration earlier"):
        natural = rows[name]["natural_population"]
        ignored -= {share for share in ignored if abs(natural - share) < 0.01}
        assert rows[name]["robust_population"] > 0.2
    assert not ignored  # each of the two iterations loses another cluster
    assert rows["SENSE-AT"]["natural_population"] > 0.98
    natural = rows["natural training"]
    assert natural["natural_population"] > 0.99
    assert natural["robust_population"] < rows["SENSE-AT"]["robust_population"]
    for number in (4, 5, 6):
        picture = tmp_path / f"sense_three_clusters_figure_{number}.png"
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000
    assert len(said) == 6
    table = experiment.to_markdown(numbers)
    assert all(f"| {name} |" in table for name in rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"p": 0.4}, {"c": 1.0}, {"sigma": 0.0}, {"gamma": -1.0}, {"iterations": 2},
        {"gradient": "median"}, {"learning_rate": math.nan},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)
