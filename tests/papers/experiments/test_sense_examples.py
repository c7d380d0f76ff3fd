"""Examples 1 and 2 of SENSE: Monte Carlo against the closed forms, and against wrong ones."""

import math

import numpy as np
import pytest

from robustjax.papers.experiments import sense_examples as examples
from robustjax.papers.experiments.sense_examples import Settings

DEFAULT = Settings()
INNER = "2: standard risk inside the grown squares, worst robust"


@pytest.fixture(scope="module")
def estimates():
    return examples.estimate(DEFAULT)


def errors(estimate, value):
    mean, deviation = estimate
    return abs(mean - value) / deviation if deviation else (0 if mean == value else math.inf)


@pytest.mark.parametrize(
    "settings",
    [DEFAULT, Settings(p=0.55, epsilon=1 / 24, seed=1), Settings(p=0.9, epsilon=0.02, seed=2)],
    ids=["default", "largest-epsilon", "unbalanced"],
)
def test_estimates_lie_within_four_standard_errors(settings):
    closed = examples.closed_forms(settings)
    found = examples.estimate(settings)
    assert closed.keys() == found.keys()
    for name, value in closed.items():
        assert errors(found[name], value) <= 4, name


def test_a_closed_form_that_is_a_tenth_off_would_be_noticed(estimates):
    for name, value in examples.closed_forms(DEFAULT).items():
        for wrong in (0.9 * value, 1.1 * value) if value else (1e-9,):
            assert errors(estimates[name], wrong) > 4, name


def test_the_paper_prints_the_same_but_for_one_strip_of_twice_the_width(estimates):
    closed, printed = examples.closed_forms(DEFAULT), examples.printed_forms(DEFAULT)
    differing = [name for name in printed if not math.isclose(printed[name], closed[name])]
    assert differing == [INNER]
    assert printed[INNER] == pytest.approx(2 * closed[INNER])
    assert errors(estimates[INNER], printed[INNER]) > 4


def test_robust_learning_loses_little_of_what_it_gains_on_the_grown_squares():
    # The paper says that the one cancels the other.
    closed = examples.closed_forms(DEFAULT)
    gained = closed["2: standard risk, worst natural"] - closed["2: standard risk, worst sensible"]
    assert closed[INNER] < gained / 6


def test_observed_squares_are_the_papers():
    def by_formula(points, margin):
        alpha, inside = 1 / 6, np.zeros(len(points), bool)
        for i in (1, 2, 3):
            for j in (1, 2, 3):
                corner = np.array(
                    [alpha / 2 + 2 * alpha * (i - 1), alpha / 2 + 2 * alpha * (j - 1)]
                )
                low, high = corner - margin, corner + alpha + margin
                inside |= ((points > low) & (points < high)).all(axis=1)
        return inside

    points = np.random.default_rng(0).uniform(size=(20_000, 2))
    for margin in (0, 0.03):
        assert (examples.observed(points, margin) == by_formula(points, margin)).all()


@pytest.mark.parametrize("sensible", [False, True])
def test_twenty_five_points_of_the_ball_are_enough(sensible):
    generator = np.random.default_rng(0)
    epsilon = DEFAULT.epsilon
    points, labels = examples.draw(DEFAULT)
    near = np.abs(points[:, 0] - 0.5) < 3 * epsilon
    points, labels = points[near][:3000], labels[near][:3000]
    classifier = examples.robust(epsilon)
    found = examples.attacked(classifier, points, labels, epsilon, sensible=sensible)
    tried = np.zeros(len(points), bool)
    for _ in range(400):
        moved = points + generator.uniform(-epsilon, epsilon, points.shape)
        wrong = classifier(moved) != labels
        tried |= wrong & (examples.bayes(moved) == labels) if sensible else wrong
    assert not (tried & ~found).any()
    assert (found & ~tried).mean() < 0.01
    assert 0.05 < found.mean() < 0.95


def test_no_other_border_has_a_smaller_robust_risk_in_example_1():
    points, labels = examples.draw(DEFAULT)

    def risk(shift):
        return examples.attacked(examples.robust(shift), points, labels, DEFAULT.epsilon).mean()

    best = risk(DEFAULT.epsilon)
    assert all(risk(shift) > best for shift in DEFAULT.epsilon * np.array([0, 0.8, 1.2, 2]))


def test_settings_outside_the_examples_are_refused():
    for wrong in ({"p": 0.5}, {"p": 1.0}, {"epsilon": 0.05}, {"epsilon": 0.0}, {"num_samples": 9}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)


def test_run_writes_a_figure_and_the_table_counts_standard_errors(tmp_path):
    settings = Settings(num_samples=2000)
    numbers = examples.run(settings, tmp_path, lambda line: None)
    picture = (tmp_path / "sense_examples_figure_2.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    table = examples.to_markdown(numbers).splitlines()
    assert len(table) == 2 + len(numbers) == 2 + len(examples.closed_forms(settings))
    row = numbers[INNER]
    expected = (row["estimate"] - row["closed_form"]) / row["standard_error"]
    line = next(line for line in table if INNER in line)
    assert line.split("|")[-2].strip() == f"{expected:+.1f}"
