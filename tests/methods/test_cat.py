"""CAT: a batch's parts and their strengths, and the curriculum as a fold over the log."""

import itertools
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import methods
from robustjax.flags import read_flags
from robustjax.methods import Batch
from robustjax.methods.cat import strength_after

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
PATIENCE = 10


def rows(accuracies, key="holdout_robust_accuracy"):
    empty = {"holdout_robust_accuracy": None, "train_robust_accuracy": None}
    return [{"epoch": n + 1, **empty, key: value} for n, value in enumerate(accuracies)]


def parts_by_the_paper(batch_size, strength):
    """A list of part numbers: k + 1 equal parts in order, what is left over added to the last."""
    share = batch_size // (strength + 1)
    numbers = [part for part in range(strength + 1) for _ in range(share)]
    return numbers + [strength] * (batch_size - len(numbers))


@pytest.fixture(scope="module")
def large(problem):
    """Twenty images in the middle of the box, whose labels are the network's own."""
    rng = np.random.default_rng(3)
    images = jnp.asarray(rng.uniform(0.3, 0.7, (20, 2, 2, 1)), jnp.float32)
    labels = np.argmax(problem.logits(images, "eval"), axis=1)
    return Batch(images, jnp.asarray(labels, jnp.int32), jnp.arange(20), jnp.ones(20))


def whole(problem, batch):
    return {
        "batch": batch,
        "keys": jax.random.split(jax.random.key(1), len(batch.labels)),
        "positions": jnp.arange(len(batch.labels)),
        "batch_size": len(batch.labels),
    }


@pytest.mark.parametrize("strength", [0, 1, 2, 3, 4, 6])
def test_part_i_takes_i_steps(strength, problem, large):
    method = methods.create("cat", strength=strength)
    found = problem.perturb(method, steps=6, **whole(problem, large))
    expected = parts_by_the_paper(20, strength)
    np.testing.assert_array_equal(found.backward_passes, expected)
    clean = np.asarray(expected) == 0
    np.testing.assert_array_equal(found.images[clean], large.images[clean])
    moved = np.abs(found.images - large.images).max(axis=(1, 2, 3))
    assert np.all(moved[~clean] > 0) and np.all(moved <= problem.epsilon + 1e-6)


def test_a_part_is_pgd_of_its_own_number_of_steps(problem, large):
    given = whole(problem, large)
    found = problem.perturb(methods.create("cat", strength=3), **given)
    for part in (1, 2, 3):
        alone = problem.perturb(methods.create("standard"), steps=part, **given)
        np.testing.assert_array_equal(
            found.images[5 * part : 5 * part + 5], alone.images[5 * part : 5 * part + 5]
        )


def test_the_authors_step_size_is_drawn_from_their_interval(problem, large):
    """After a single step an example has moved by the step's size, or to the edge of its ball."""
    method = methods.create("cat", strength=6, random_step=True, start="clean")
    given = {**whole(problem, large), "steps": 6, "budget": jnp.int32(1)}
    part = np.tile(parts_by_the_paper(20, 6), 6)
    moved = []
    for seed in range(6):
        given["keys"] = jax.random.split(jax.random.key(seed), 20)
        found = np.asarray(problem.perturb(method, **given).images)
        moved.append(np.abs(found - large.images).max(axis=(1, 2, 3)) / problem.epsilon)
    moved = np.concatenate(moved)
    np.testing.assert_array_equal(moved[part == 0], 0)
    for i in range(1, 7):
        low, high = 2 / i, 2 / i * 10 / i
        assert np.all(moved[part == i] >= min(low, 1) - 1e-5)
        assert np.all(moved[part == i] <= min(high, 1) + 1e-5)
    # Part 6 never meets the edge: 48 draws show the whole interval, one for each example.
    share = (moved[part == 6] - 1 / 3) / (5 / 9 - 1 / 3)
    assert np.all(np.abs(np.quantile(share, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]) < 0.2)
    assert len(np.unique(share.round(5))) == len(share) == 48


def test_two_devices_share_the_parts_of_the_whole_batch(problem, large):
    method = methods.create("cat", strength=2)
    given = whole(problem, large)
    together = problem.perturb(method, **given)
    for half in (slice(0, 10), slice(10, 20)):
        share = {
            "batch": jax.tree.map(lambda leaf, half=half: leaf[half], large),
            "keys": given["keys"][half],
            "positions": given["positions"][half],
            "batch_size": 20,
        }
        found = problem.perturb(method, **share)
        np.testing.assert_array_equal(found.backward_passes, together.backward_passes[half])
        np.testing.assert_array_equal(found.images, together.images[half])


def test_the_strength_ends_at_the_number_of_steps_and_at_the_size_of_the_batch(problem, large):
    capped = problem.perturb(methods.create("cat", strength=50), **whole(problem, large))
    np.testing.assert_array_equal(capped.backward_passes, parts_by_the_paper(20, problem.steps))
    # More parts than examples: one example each, the strongest parts stay empty.
    crowded = problem.perturb(methods.create("cat", strength=8), steps=8)
    np.testing.assert_array_equal(crowded.backward_passes, np.arange(6))


def test_the_strength_may_follow_a_schedule():
    method = methods.create("cat", strength="0,1@10,2@20")
    assert method.curriculum is None
    at = [method.scalars_at(epoch)["strength"] for epoch in (0.0, 9.9, 10.0, 19.9, 20.0, 300.0)]
    assert at == [0, 0, 1, 1, 2, 2]


def test_ten_epochs_without_a_new_best_raise_the_strength():
    method = methods.create("cat")
    still = [0.5] + [0.5] * PATIENCE

    def strength(accuracies, **options):
        return method.scalars_at(float(len(accuracies)), rows(accuracies, **options))["strength"]

    assert strength([]) == 0
    assert strength(still[:-1]) == 0
    assert strength(still) == 1
    assert strength(still, key="train_robust_accuracy") == 1
    # A new best in the ninth epoch begins the count anew.
    assert strength([*still[:-1], 0.6]) == 0
    assert strength([*still[:-1], 0.6, *[0.1] * (PATIENCE - 1)]) == 0
    assert strength([*still[:-1], 0.6, *[0.1] * PATIENCE]) == 1
    # The next strength is harder; its own best counts, not the one before.
    assert strength([*still, 0.2, *[0.1] * (PATIENCE - 1)]) == 1
    assert strength([*still, 0.2, *[0.1] * PATIENCE]) == 2


@hypothesis.given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 5))
def test_the_fold_is_pure_never_falls_and_forgets_nothing_it_needs(accuracies, patience):
    log = rows(accuracies)
    steps = [strength_after(log[:n], patience) for n in range(len(log) + 1)]
    assert steps[0] == 0
    for before, after in itertools.pairwise(steps):
        assert after - before in (0, 1)
    # A growth needs the epoch that sets the best and `patience` epochs more.
    assert steps[-1] <= len(log) // (patience + 1)
    assert strength_after(log, patience) == steps[-1]
    rising = rows(sorted({round(value, 3) for value in accuracies}))
    assert strength_after(rising, patience) == 0


def test_a_hold_out_decides_where_there_is_one():
    log = [
        {"holdout_robust_accuracy": 0.5, "train_robust_accuracy": n / 100} for n in range(PATIENCE)
    ]
    assert strength_after(log, PATIENCE - 1) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience=0: accepted are whole numbers, 1 to"),
        ({"strength": -1}, "strength=-1: accepted are finite numbers, at least 0"),
        ({"start": "far"}, "start=far: accepted are"),
    ],
)
def test_what_it_does_not_accept_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        methods.create("cat", **options)


def test_the_flag_file_holds_the_authors_settings():
    config = read_flags(LAUNCH / "cat.flags")
    assert (config.epsilon, config.steps, config.batch_size, config.epochs) == (0.032, 7, 200, 300)
    assert config.step_size == pytest.approx(2 * 0.032 / 7, rel=1e-3)
    assert config.hyperparameters() == {"patience": PATIENCE}
    assert methods.create("cat", **config.hyperparameters()).curriculum is not None


def test_soft_labels_are_climbed_as_they_are(problem, large):
    soft = large._replace(labels=jax.nn.one_hot(large.labels, 3))
    found = problem.perturb(methods.create("cat", strength=3), **whole(problem, soft))
    hard = problem.perturb(methods.create("cat", strength=3), **whole(problem, large))
    np.testing.assert_allclose(found.images, hard.images, atol=1e-6)
