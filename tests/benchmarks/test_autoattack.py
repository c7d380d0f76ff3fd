"""The AutoAttack benchmark: its units, its two sides and the networks that they attack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import autoattack_subject, library_autoattack
from benchmarks.autoattack_work import ATTACKS, Budget
from benchmarks.library_autoattack import CompileSeconds, LibraryAutoAttack
from benchmarks.library_autoattack import stages as library_stages
from robustjax import attacks
from robustjax.attacks.autoattack import ensemble

THREAT = attacks.ThreatModel("linf", 0.1)


def linear():
    """A linear network of three classes with its images: about half of them can be broken."""
    random = np.random.default_rng(0)
    kernel = random.normal(size=(12, 3)).astype(np.float32)
    images = random.uniform(size=(24, 2, 2, 3)).astype(np.float32)
    labels = (images.reshape(24, 12) @ kernel).argmax(1).astype(np.int32)
    labels[0] = (labels[0] + 1) % 3
    logits_fn = jax.tree_util.Partial(
        lambda kernel, images: images.reshape(len(images), -1) @ kernel, jnp.asarray(kernel)
    )
    return kernel, logits_fn, images, labels


def robust_in_closed_form(kernel, images, labels, epsilon):
    """No image of the ball inside the box turns any difference of two logits."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    lowest, highest = np.maximum(flat - epsilon, 0), np.minimum(flat + epsilon, 1)
    robust = np.ones(len(images), bool)
    for row, label in enumerate(labels):
        for other in set(range(3)) - {int(label)}:
            lead = (kernel[:, label] - kernel[:, other]).astype(np.float64)
            worst = np.where(lead > 0, lowest[row], highest[row])
            robust[row] &= worst @ lead > 0
    return robust


def test_the_library_s_side_ends_with_the_verdicts_of_a_linear_network():
    kernel, logits_fn, images, labels = linear()
    budget = Budget(steps=10, queries=20, targets=2)
    ours = LibraryAutoAttack(logits_fn, images, labels, THREAT, budget=budget, batch_size=16)
    assert ours.robust.sum() == len(labels) - 1
    ours.run("apgd-ce")
    ours.run("apgd-t")
    expected = robust_in_closed_form(kernel, images, labels, 0.1)
    np.testing.assert_array_equal(ours.robust, expected)
    assert 0 < expected.sum() < len(labels) - 1


def test_its_stages_are_autoattack_s_unless_scaled():
    def written(stages):
        return [(stage.name, stage.number, stage.attack) for stage in stages]

    assert written(library_stages(10, Budget())) == written(ensemble.standard_stages(10))
    scaled = library_stages(10, Budget(steps=7, queries=11))
    assert [stage.name for stage in scaled] == [s.name for s in ensemble.standard_stages(10)]
    assert {getattr(stage.attack, "steps", 7) for stage in scaled} == {7}
    assert scaled[-1].attack.queries == 11


def test_what_is_compiled_at_the_same_time_counts_once(monkeypatch):
    ends = iter([10.0, 11.0, 20.0])
    monkeypatch.setattr(library_autoattack.time, "perf_counter", lambda: next(ends))
    with CompileSeconds() as heard:
        for seconds in (4.0, 3.0, 2.0):  # From 6 to 10, from 8 to 11, from 18 to 20.
            heard._heard(CompileSeconds._EVENTS[1], seconds)
        heard._heard("/another/event", 5.0)
    assert heard.total == 5.0 + 2.0


def test_compiling_is_heard_inside_alone():
    with CompileSeconds() as heard:
        jax.jit(lambda x: x * 3 + 1)(np.ones(7))
    total = heard.total
    assert total > 0
    jax.jit(lambda x: x * 5 + 1)(np.ones(7))
    assert heard.total == total


def test_units_of_autoattack_s_own_budget():
    assert [Budget().units(attack) for attack in ATTACKS] == [201, 1809, 2700, 5001]


@pytest.mark.parametrize(
    ("model", "shape"), [("small_cnn", (28, 28, 1)), ("resnet_18", (32, 32, 3))]
)
def test_enlarged_digits_keep_their_pixels(model, shape):
    digit = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    larger = autoattack_subject.enlarged(digit, model)
    assert larger.shape == (1, *shape)
    times, border = (3, 2) if model == "small_cnn" else (4, 0)
    for row, column in ((0, 0), (3, 5), (7, 7)):
        seen = larger[0, border + times * row, border + times * column]
        assert set(seen.tolist()) == {int(digit[0, row, column, 0])}
