"""Schedules: in rows that are refilled, every example ends as it does in a batch."""

import contextlib
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.engine import cpu, filling, refill
from robustjax.attacks.engine.refill import Waiting

RANDOM = np.random.default_rng(1)
HIDDEN, OUT = (
    (0.5 * RANDOM.normal(size=shape)).astype(np.float32) for shape in ((27, 16), (16, 5))
)
IMAGES = RANDOM.uniform(size=(45, 3, 3, 3)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(0), 45)
THREAT = ThreatModel("linf", 0.04)
SIZE = 8


def network(parameters, images):
    hidden, out = parameters
    return jnp.tanh(images.reshape(len(images), -1) @ hidden) @ out


LOGITS = jax.tree_util.Partial(network, (jnp.asarray(HIDDEN), jnp.asarray(OUT)))
LABELS = np.argmax(LOGITS(IMAGES), axis=1)
ATTACKS = {
    "apgd": attacks.APGD(steps=20).prepare,
    "apgd_targeted": attacks.APGDTargeted(steps=20, num_targets=1).prepare,
    "fab": attacks.FABTargeted(steps=10, num_targets=1).prepare,
    "square": attacks.Square(queries=150).prepare,
}


def everybody():
    return Waiting(np.ones(len(IMAGES), bool))


def prepare_on(attack, seen=None):
    def prepare(rows):
        if seen is not None:
            seen.append(rows)
        return attack(KEYS[rows], LOGITS, jnp.asarray(IMAGES[rows]), LABELS[rows], THREAT)

    return prepare


def by_position(schedule):
    found = list(schedule)
    positions = np.concatenate([part.turns for part in found])
    assert sorted(positions) == list(range(len(IMAGES)))
    order = np.argsort(positions)
    success = np.concatenate([part.success for part in found])[order]
    return success, np.concatenate([part.images for part in found])[order]


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("name", ATTACKS)
def test_refilled_rows_end_as_batches_do(name, at_once):
    prepare = prepare_on(ATTACKS[name])
    success, images = by_position(filling.in_batches(prepare, everybody(), SIZE))
    assert 0.1 < success.mean() < 0.9
    again, same_images = by_position(filling.refilled(prepare, everybody(), SIZE, at_once))
    np.testing.assert_array_equal(again, success)
    np.testing.assert_allclose(same_images[success], images[success], atol=1e-5)


@pytest.mark.parametrize("slow", [False, True])
def test_a_network_that_is_slow_in_a_loop_is_stepped_by_the_host(slow, monkeypatch):
    monkeypatch.setattr(cpu, "is_slow_in_a_loop", lambda *_: slow)
    compiled = []

    def compile_(*arguments, compile_=refill._compile.__wrapped__):
        compiled.append(compile_(*arguments))
        return compiled[-1]

    monkeypatch.setattr(refill, "_compile", compile_)
    prepare = prepare_on(ATTACKS["apgd"])
    success, images = by_position(filling.refilled(prepare, everybody(), SIZE, 1))
    assert {" while(" in programs.steps.as_text() for programs in compiled} == {not slow}
    expected, same_images = by_position(filling.in_batches(prepare, everybody(), SIZE))
    np.testing.assert_array_equal(success, expected)
    np.testing.assert_allclose(images[success], same_images[success], atol=1e-5)


def test_a_broken_example_makes_room_long_before_the_others_have_had_their_steps():
    seen = []
    prepare = prepare_on(attacks.APGD(steps=400).prepare, seen)
    success, _ = by_position(filling.refilled(prepare, everybody(), SIZE, 1))
    assert all(rows.shape == (SIZE,) for rows in seen)
    # Until the first robust example had all its steps, others came in beside it.
    first_robust = np.flatnonzero(~success)[0]
    beside = {int(row) for rows in seen if first_robust in rows for row in rows}
    assert len(beside) > SIZE


def test_an_example_that_is_wrong_as_it_is_stays_as_it_is():
    labels = (LABELS + 1) % 5

    def prepare(rows):
        images = jnp.asarray(IMAGES[rows])
        return attacks.APGD(steps=20).prepare(KEYS[rows], LOGITS, images, labels[rows], THREAT)

    success, images = by_position(filling.refilled(prepare, everybody(), SIZE, 2))
    assert success.all()
    np.testing.assert_array_equal(images, IMAGES)


def test_turns_that_become_needless_are_passed_over():
    pending = np.ones((2, 5), bool)
    pending[0, 1] = False
    waiting = Waiting(pending)
    np.testing.assert_array_equal(waiting.take(3), [0, 2, 3])
    pending[:, [2, 4]] = False
    assert waiting
    np.testing.assert_array_equal(waiting.take(9), [5, 6, 8])
    assert not waiting and len(waiting.take(2)) == 0


def test_nobody_to_attack():
    assert (
        list(filling.refilled(prepare_on(ATTACKS["apgd"]), Waiting(np.zeros(3, bool)), SIZE, 2))
        == []
    )


def test_an_abandoned_schedule_leaves_no_thread_behind():
    before = threading.active_count()
    prepare = prepare_on(attacks.APGD(steps=100_000).prepare)
    schedule = filling.refilled(prepare, everybody(), SIZE, 2)
    with contextlib.closing(schedule):
        next(schedule)
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_an_error_in_a_step_reaches_the_caller(monkeypatch):
    def fails(self, waiting):
        raise ArithmeticError("in a thread")

    monkeypatch.setattr(refill.RefilledBatch, "advance", fails)
    with pytest.raises(ArithmeticError, match="in a thread"):
        list(filling.refilled(prepare_on(ATTACKS["apgd"]), everybody(), SIZE, 2))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="refilled batches are for CPUs")
@pytest.mark.parametrize(
    ("examples", "batch_size", "size", "at_once"),
    [(1000, 256, 16, 2), (46, 256, 12, 2), (16, 256, 8, 2), (64, 7, 3, 2), (9, 1, 1, 1)],
)
def test_refilled_batches_share_the_examples_and_keep_to_the_batch_size(
    examples, batch_size, size, at_once, monkeypatch
):
    monkeypatch.setattr(ensemble, "_usable_cores", lambda: 2)
    images = np.zeros((examples, 2, 2, 1), np.float32)
    batches = ensemble.Batches.of(images, np.zeros(examples, int), batch_size)
    assert (batches.size, batches.at_once) == (size, at_once)
    assert batches.size * batches.at_once <= batch_size
