"""Suites of attacks on a linear model, whose robust accuracy is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, evaluation

EPSILON = 0.05
WEIGHTS = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)


def linear(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


LOGITS_FN = jax.tree_util.Partial(linear, jnp.asarray(WEIGHTS))


@pytest.fixture(scope="module")
def dataset():
    # Pixels far enough from 0 and 1 that the box never matters.
    rng = np.random.default_rng(1)
    images = rng.integers(60, 196, (25, 2, 2, 1), dtype=np.uint8)
    return data.Dataset("made", images, rng.integers(0, 2, 25, dtype=np.int32), 2)


def margins(dataset):
    logits = (dataset.images / 255.0 - 0.5).reshape(len(dataset), -1) @ np.float64(WEIGHTS)
    rows = np.arange(len(dataset))
    return logits[rows, dataset.labels] - logits[rows, 1 - dataset.labels]


def scores(dataset, names, batch_size=8, **options):
    return evaluation.evaluate(
        names,
        jax.random.key(0),
        LOGITS_FN,
        dataset,
        attacks.ThreatModel("linf", EPSILON),
        step_size=EPSILON / 4,
        batch_size=batch_size,
        **options,
    )


def test_accuracies_are_those_of_the_closed_form(dataset):
    found = scores(dataset, ["fgsm", "pgd-10", "pgd-3x2", "cw-10"])
    margin = margins(dataset)
    np.testing.assert_array_equal(found["clean"].correct, margin > 0)
    # The worst perturbation of a linear model lowers the margin by epsilon times the l1 norm.
    worst = margin - EPSILON * np.abs(np.float64(WEIGHTS[:, 0] - WEIGHTS[:, 1])).sum()
    assert 0 < (worst > 0).sum() < (margin > 0).sum()
    for name in ("fgsm", "pgd-10", "cw-10"):
        np.testing.assert_array_equal(found[name].correct, worst > 0, err_msg=name)
    assert np.all(found["pgd-3x2"].correct >= (worst > 0))
    assert list(found) == ["clean", "fgsm", "pgd-10", "pgd-3x2", "cw-10"]


def test_the_size_of_a_batch_changes_nothing(dataset):
    one, other = (scores(dataset, ["pgd-2"], batch_size=size) for size in (7, 25))
    np.testing.assert_array_equal(one["pgd-2"].correct, other["pgd-2"].correct)


def test_no_example_is_robust_that_is_not_correct(dataset):
    found = scores(dataset, ["pgd-1"])
    assert not np.any(found["pgd-1"].correct & ~found["clean"].correct)


def test_a_network_that_answers_nan_is_right_about_nothing(dataset):
    broken = jax.tree_util.Partial(linear, jnp.full_like(WEIGHTS, jnp.nan))
    found = evaluation.run_attack(
        evaluation.parse_attack("clean"),
        jax.random.key(0),
        broken,
        dataset,
        attacks.ThreatModel(),
        step_size=0.1,
    )
    assert not np.any(found.correct)


def test_progress_is_reported_after_every_batch(dataset):
    heard = []
    scores(dataset, ["clean"], report=lambda *news: heard.append(news))
    right = margins(dataset) > 0
    assert heard == [("clean", n, int(right[:n].sum())) for n in (8, 16, 24, 25)]


@pytest.mark.parametrize("name", ["pgd", "pgd-0", "pgd-20x0", "cw", "apgdx", "pgd-20x", ""])
def test_unknown_attacks_are_named(name):
    with pytest.raises(
        ValueError, match=f"unknown attack '{name}' in --attacks: accepted are clean"
    ):
        evaluation.parse_attack(name)


def test_names_of_attacks():
    assert evaluation.parse_attack("pgd-60x20") == ("pgd-60x20", "pgd", 60, 20)
    assert evaluation.parse_attack("cw-30") == ("cw-30", "cw", 30, 1)


def test_cw_needs_linf(dataset):
    with pytest.raises(ValueError, match="linf attack; the threat model is l2"):
        evaluation.evaluate(
            ["cw-3"], jax.random.key(0), LOGITS_FN, dataset, attacks.ThreatModel("l2"), step_size=1
        )


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    # Published examples of the Wilson interval: Newcombe (1998), table I.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_of_newcombe(successes, total, low, high):
    found = evaluation.wilson_interval(successes, total)
    np.testing.assert_allclose(found, (low, high), atol=6e-5)


def test_wilson_interval_of_all_is_below_one():
    low, high = evaluation.wilson_interval(20, 20)
    np.testing.assert_allclose((low, high), (1 - 0.1611, 1.0), atol=6e-5)
