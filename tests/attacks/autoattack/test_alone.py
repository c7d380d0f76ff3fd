"""One of AutoAttack's attacks by itself: which can be cut into turns, and what each is told."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel
from robustjax.attacks._nearest_classes import nearest_first
from robustjax.attacks.autoattack import alone, ensemble
from robustjax.attacks.autoattack.staged import Attacked
from robustjax.attacks.targets import ranked_inputs

apgd_module = importlib.import_module("robustjax.attacks.apgd")  # Hidden by the function.

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RANDOM.normal(size=(12, 6)).astype(np.float32) * np.arange(1, 7))
IMAGES = RANDOM.uniform(0.2, 0.8, size=(23, 2, 2, 3)).astype(np.float32)
NETWORK = jax.tree_util.Partial(lambda w, x: (x.reshape(len(x), -1) - 0.5) @ w, WEIGHTS)
LABELS = np.asarray(jnp.argmax(NETWORK(IMAGES), axis=1))
THREAT = ThreatModel("linf", 0.05)


@pytest.mark.parametrize(
    ("attack", "turns"),
    [
        (attacks.APGD(steps=3, restarts=2), 2),
        (attacks.APGDTargeted(num_targets=4), 4),
        (attacks.FABTargeted(num_targets=5), 5),
        (attacks.Square(queries=7), 1),
    ],
)
def test_targets_and_restarts_are_turns(attack, turns):
    stage = alone.stage_of("it", attack)
    assert stage.turns == turns
    assert getattr(stage.attack, "num_targets", 1) == getattr(stage.attack, "restarts", 1) == 1


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(steps=3),
        attacks.APGD(targets="least"),
        attacks.APGD(samples=2),
        attacks.FABTargeted(restarts=2),
        attacks.Square(restarts=2),
    ],
)
def test_what_cannot_be_cut_is_no_stage(attack):
    assert alone.stage_of("it", attack) is None


def test_malt_is_told_its_targets_once_and_in_their_order(monkeypatch):
    calls = []

    def counted(logits_fn, inputs):
        calls.append(len(inputs.images))
        return nearest_first(logits_fn, inputs)

    monkeypatch.setattr(alone, "nearest_first", counted)
    monkeypatch.setattr(apgd_module, "nearest_first", counted)
    told = []
    run = ensemble.run_stages

    def watched(stages, *rest):
        told.append(stages[0].told)
        run(stages, *rest)

    monkeypatch.setattr(ensemble, "run_stages", watched)
    stage = alone.stage_of("malt", attacks.APGDTargeted(steps=2, num_targets=5, order="nearest"))
    alone.attack_alone(stage, KEY, NETWORK, IMAGES, LABELS, THREAT, batch_size=8)
    inputs = ranked_inputs(KEY, NETWORK, jnp.asarray(IMAGES), jnp.asarray(LABELS), THREAT)
    np.testing.assert_array_equal(told[0]["ranked"], nearest_first(NETWORK, inputs))
    assert (told[0]["ranked"] != np.asarray(inputs.ranked)).any()
    assert len(IMAGES) <= sum(calls) < len(IMAGES) + 8  # The last batch is filled up.


def test_the_state_of_a_random_network_is_of_its_batches():
    def noisy(weights, images, key):
        return (images.reshape(len(images), -1) - 0.5) @ weights + jax.random.normal(key, (6,))

    def rows(network, random):
        return Attacked.of(KEY, network, IMAGES, LABELS, THREAT, batch_size=8, random=random).rows

    assert rows(NETWORK, random=False) == 1
    assert rows(jax.tree_util.Partial(noisy, WEIGHTS), random=True) > 1
