"""Stop rules, step by step on models so small that every point can be written down.

All numbers are dyadic, so that points compare exactly.
"""

import dataclasses
import itertools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel, stopping
from robustjax.attacks.engine import run as engine

BUILT_IN = [stopping.misclassified, stopping.loss_above, stopping.fosc]

EVERYWHERE = ThreatModel(epsilon=np.inf)


def ramp(images):
    """Class 1 beyond one half; its logit grows with the one pixel."""
    return jnp.concatenate([jnp.zeros_like(images), 8 * (images - 0.5)], axis=1)


def second_logit(logits, labels):
    return logits[:, 1]


def climb(starts, stop, steps=8, model=ramp, loss=second_logit, threat=EVERYWHERE, **options):
    """Climbs from the given pixels in steps of 1/8; the label is class 0."""
    images = jnp.asarray(starts, jnp.float32).reshape(len(starts), -1)
    labels = jnp.zeros(len(starts), jnp.int32)
    options = {"start": "clean", "step_size": 0.125, "loss": loss, "stop": stop} | options
    result = attacks.pgd(jax.random.key(0), model, images, labels, threat, steps=steps, **options)
    return np.asarray(result.images).squeeze(), list(result.backward_passes), list(result.success)


@pytest.mark.parametrize(
    ("tau", "points", "passes"),
    [
        # From 1/4 the points are .25 .375 .5 | .625 .75 .875 1, misclassified after the bar.
        (0, [0.625, 0.75], [3, 0]),
        (1, [0.75, 0.875], [4, 1]),
        (2, [0.875, 1.0], [5, 2]),
        ([2, 0], [0.875, 0.75], [5, 0]),
    ],
)
def test_misclassified_drops_before_the_step(tau, points, passes):
    images, taken, success = climb([0.25, 0.75], stopping.misclassified(jnp.asarray(tau)))
    np.testing.assert_array_equal(images, points)
    assert taken == passes
    assert success == [True, True]


def test_misclassified_counts_cumulatively():
    def comb(images):
        # Misclassified at .25 and .5, right at .375 and .625 and beyond.
        wrong = (images == 0.25) | (images == 0.5)
        return jnp.concatenate([0 * images, jnp.where(wrong, 1.0, -1.0), images - 9], axis=1)

    def third(logits, labels):
        return logits[:, 2]

    rule = stopping.misclassified(jnp.array([0, 1, 2]))
    images, taken, _ = climb([0.25] * 3, rule, steps=4, model=comb, loss=third)
    np.testing.assert_array_equal(images, [0.25, 0.5, 0.75])
    assert taken == [0, 2, 4]


def test_misclassified_is_not_asked_after_the_last_step():
    images, taken, success = climb([0.25], stopping.misclassified(0), steps=3)
    assert (images, taken, success) == (0.625, [3], [True])
    images, taken, success = climb([0.25], stopping.misclassified(0), steps=2)
    assert (images, taken, success) == (0.5, [2], [False])


def test_loss_above_reverts_to_the_previous_point():
    # The loss at x is 8 (x - 1/2): at the threshold 1 exactly for .625, above it from .75 on.
    images, taken, _ = climb([0.25, 0.5, 0.875], stopping.loss_above(1.0))
    np.testing.assert_array_equal(images, [0.625, 0.625, 0.875])
    assert taken == [4, 2, 0]


@pytest.mark.parametrize(("steps", "point"), [(2, 0.5), (3, 0.625), (4, 0.625), (5, 0.625)])
def test_loss_above_is_asked_after_the_last_step(steps, point):
    images, taken, success = climb([0.25], stopping.loss_above(1.0), steps=steps)
    assert images == point
    assert taken == [min(steps, 4)]
    assert success == [point > 0.5]


def test_loss_above_is_asked_after_the_last_step_of_a_budget():
    rule = stopping.loss_above(1.0)
    images, taken, _ = climb([0.25] * 4, rule, budget=jnp.array([0, 3, 4, 8]))
    np.testing.assert_array_equal(images, [0.25, 0.625, 0.625, 0.625])
    assert taken == [0, 3, 4, 4]


def test_loss_above_takes_a_threshold_per_example():
    images, taken, _ = climb([0.25] * 2, stopping.loss_above(jnp.array([-1.0, 2.0])))
    np.testing.assert_array_equal(images, [0.375, 0.75])
    assert taken == [2, 5]


@pytest.mark.parametrize(
    ("norm", "weights", "threshold", "passes"),
    [
        # FOSC at the clean image, after one step and after two: .75 .375 0, and 1.25 .625 0.
        ("linf", [1.0, -2.0], 1.0, 1),
        ("linf", [1.0, -2.0], 0.375, 1),
        ("linf", [1.0, -2.0], 0.37, 2),
        ("linf", [1.0, -2.0], 0.0, 2),
        ("linf", [1.0, -2.0], -0.1, 8),
        ("l2", [3.0, 4.0], 0.63, 1),
        ("l2", [3.0, 4.0], 0.62, 2),
    ],
)
def test_fosc_on_a_linear_loss(norm, weights, threshold, passes):
    def linear(images):
        return jnp.stack([jnp.zeros(len(images)), images @ jnp.array(weights)], axis=1)

    threat = ThreatModel(norm, 0.25)
    images, taken, _ = climb([[0.5, 0.5]], stopping.fosc(threshold), model=linear, threat=threat)
    assert taken == [passes]
    direction = np.sign(weights) if norm == "linf" else np.array(weights) / 5
    np.testing.assert_allclose(images, 0.5 + min(passes, 2) * 0.125 * direction, rtol=1e-6)


def test_fosc_measures_from_the_clean_image_not_the_start():
    # One step from here reaches the edge of the ball, where FOSC is 0; measured from the start
    # itself it would stay at 8 * (.25 - .125) = 1.
    images, taken, _ = climb(
        [0.5],
        stopping.fosc(0.1),
        threat=ThreatModel(epsilon=0.25),
        start=jnp.array([[0.625]]),
    )
    assert (images, taken) == (0.75, [1])


def test_the_threshold_may_be_traced():
    @jax.jit
    def passes(threshold):
        images = jnp.array([[0.25]])
        return attacks.pgd(
            jax.random.key(0),
            ramp,
            images,
            jnp.array([0]),
            EVERYWHERE,
            steps=8,
            step_size=0.125,
            loss=second_logit,
            start="clean",
            stop=stopping.loss_above(threshold),
        ).backward_passes

    assert [int(passes(value)[0]) for value in (-5.0, -1.0, 1.0, 9.0)] == [0, 2, 4, 8]


@pytest.mark.parametrize("rule", [stopping.loss_above, stopping.fosc])
def test_thresholds_are_as_precise_as_they_are_given(rule):
    assert rule(1).start(3).threshold.dtype == jnp.float32
    assert rule(jnp.bfloat16(1)).start(3).threshold.dtype == jnp.float32
    with jax.enable_x64(True):
        threshold = rule(np.float64(1 + 2.0**-40)).start(3).threshold
        np.testing.assert_array_equal(threshold, [1 + 2.0**-40] * 3)
    np.testing.assert_array_equal(rule([1.0, 2.0]).start(2).threshold, [1, 2])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AfterSteps:
    count: jax.Array
    after_last_step: ClassVar[bool] = False

    def start(self, batch_size):
        return AfterSteps(jnp.broadcast_to(self.count, (batch_size,)))

    def check(self, point):
        stop = point.taken >= self.count
        return stopping.Decision(self, stop, jnp.zeros_like(stop))


def test_a_rule_of_ones_own():
    images, taken, _ = climb([0.25, 0.5], AfterSteps(jnp.array([1, 3])))
    np.testing.assert_array_equal(images, [0.375, 0.875])
    assert taken == [1, 3]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AfterMoreSteps(AfterSteps):
    def start(self, batch_size):
        return AfterMoreSteps(jnp.broadcast_to(self.count, (batch_size,)))

    def check(self, point):
        stop = point.taken > self.count
        return stopping.Decision(self, stop, jnp.zeros_like(stop))


def test_no_program_is_taken_for_that_of_another_rule(monkeypatch):
    # jit tells programs apart by the structure of their arguments.
    rules = [AfterSteps, AfterMoreSteps, *BUILT_IN]
    structures, run = [], engine.run

    def recording(attack, model, examples, inputs, *rest, **options):
        for part in (inputs, attack.start(inputs, None, 0)):
            structures.append(jax.tree.structure(part))
        return run(attack, model, examples, inputs, *rest, **options)

    monkeypatch.setattr(engine, "run", recording)
    for rule in rules:
        climb([0.25], rule(jnp.array([1])))
    assert len(structures) == 2 * len(rules)
    for first, second in itertools.combinations(structures, 2):
        assert first != second


def test_structures_of_the_rules_differ():
    rules = [rule(jnp.array([1])) for rule in BUILT_IN]
    for first, second in itertools.combinations(map(jax.tree.structure, rules), 2):
        assert first != second


class Unregistered(AfterSteps):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stopping.misclassified(0.5), "tau=0.5: accepted are"),
        (lambda: stopping.misclassified(-1), "tau=-1: accepted are"),
        (lambda: stopping.misclassified([0, -1]), "tau=.0, -1."),
        (lambda: climb([0.25], stopping.misclassified(jnp.zeros(3, int))), "tau=int.*: accepted"),
        (lambda: climb([0.25], stopping.loss_above(jnp.zeros(3))), "threshold=float.*: accepted"),
        (lambda: climb([0.25], "misclassified"), "stop=misclassified: accepted are rules"),
        (lambda: climb([0.25], Unregistered(1)), "register_dataclass"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_that_is_no_number_is_above_every_threshold_and_its_step_undone():
    def network(images):
        logits = images.reshape(len(images), 4)[:, :2]
        far = jnp.abs(images - 0.5).max(axis=(1, 2, 3)) > 0.03
        return jnp.where(far[:, None], jnp.nan, logits)

    images = jnp.full((2, 2, 2, 1), 0.5)
    found = attacks.pgd(
        jax.random.key(0), network, images, jnp.array([0, 1]), attacks.ThreatModel("linf", 0.1),
        steps=4, step_size=0.02, start="clean", stop=stopping.loss_above(1e9),
    )  # fmt: skip
    assert np.all(np.isfinite(network(found.images)))
    assert found.backward_passes.tolist() == [2, 2]


@pytest.mark.parametrize("tau", [2**32, np.uint32(2**32 - 5), np.int64(2**32)], ids=type)
def test_more_steps_than_are_counted_are_refused(tau):
    with pytest.raises(ValueError, match=r"tau"):
        stopping.misclassified(tau)
