"""Transfer: closed forms with two linear networks, and verdicts that are the target's alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.attacks import AttackResult, ThreatModel, apgd, pgd
from robustjax.attacks.transfer import transfer

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
TARGET = RANDOM.normal(size=12).astype(np.float32)
# Akin to the target, as another network of the same task is.
SOURCE = TARGET + RANDOM.normal(size=12).astype(np.float32)
IMAGES = RANDOM.uniform(0.3, 0.7, (16, 2, 2, 3)).astype(np.float32)
FLAT = IMAGES.reshape(16, 12).astype(np.float64)
LABELS = np.less(FLAT @ TARGET, np.median(FLAT @ TARGET)).astype(int)
EPSILON = 0.04
THREAT = ThreatModel("linf", EPSILON)


def linear(weights):
    middle = float(np.median(FLAT @ weights))

    def logits(images):
        score = images.reshape(len(images), -1) @ weights - middle
        return jnp.stack([score, -score], axis=1)

    return logits


def attack(**changes):
    arguments = {"source_fn": linear(SOURCE), "logits_fn": linear(TARGET), "threat": THREAT}
    arguments |= {"steps": 8, "step_size": 0.02} | changes
    source_fn, logits_fn, threat = (
        arguments.pop(name) for name in ("source_fn", "logits_fn", "threat")
    )
    return transfer(KEY, source_fn, logits_fn, IMAGES, LABELS, threat, **arguments)


def test_the_images_are_the_sources_corners_and_the_verdict_the_targets():
    result = attack()
    away = np.where(LABELS == 1, 1, -1)[:, None] * np.sign(SOURCE)
    corners = FLAT + EPSILON * away
    np.testing.assert_allclose(np.reshape(result.images, (16, 12)), corners, atol=1e-6)
    scores = corners @ TARGET - np.median(FLAT @ TARGET)
    np.testing.assert_array_equal(result.success, (scores < 0).astype(int) != LABELS)
    assert 0 < result.success.sum() < 16
    alone = pgd(KEY, linear(SOURCE), IMAGES, LABELS, THREAT, steps=8, step_size=0.02)
    np.testing.assert_array_equal(result.images, alone.images)
    np.testing.assert_array_equal(result.backward_passes, alone.backward_passes)
    assert (alone.success != result.success).any()


def test_the_target_itself_is_the_best_source():
    itself = attack(source_fn=linear(TARGET))
    opposite = attack(source_fn=linear(-TARGET))
    assert itself.success.sum() > attack().success.sum() > opposite.success.sum() == 0


def test_other_attacks_and_their_options():
    result = transfer(
        KEY, linear(TARGET), linear(TARGET), IMAGES, LABELS, THREAT, attack=apgd, steps=20
    )
    alone = apgd(KEY, linear(TARGET), IMAGES, LABELS, THREAT, steps=20)
    np.testing.assert_array_equal(result.success, alone.success)


def test_images_that_leave_the_ball_are_brought_back_before_they_are_judged():
    def reckless(key, logits_fn, images, labels, threat):
        del key, logits_fn, labels, threat
        steps = jnp.where(LABELS == 1, 1, -1)[:, None] * jnp.sign(TARGET)
        everywhere = jnp.ones(16, bool)
        moved = images + 5 * steps.reshape(images.shape)
        return AttackResult(moved, everywhere, jnp.zeros(16, jnp.int32))

    result = transfer(KEY, None, linear(TARGET), IMAGES, LABELS, THREAT, attack=reckless)
    offset = np.abs(np.asarray(result.images, np.float64) - IMAGES)
    assert offset.max() <= EPSILON + 1e-7
    np.testing.assert_array_equal(result.success, attack(source_fn=linear(TARGET)).success)
    assert 0 < result.success.sum() < 16


def test_an_epsilon_of_zero_shows_the_clean_images():
    result = attack(threat=ThreatModel("linf", 0.0))
    np.testing.assert_array_equal(result.images, IMAGES)
    assert not result.success.any()


def test_jit_gives_the_same():
    inside = jax.jit(lambda: attack())()
    np.testing.assert_allclose(inside.images, attack().images, atol=1e-6)
    np.testing.assert_array_equal(inside.success, attack().success)


def test_a_second_target_compiles_nothing(count_compilations):
    def run(scale):
        source, target = jnp.asarray(SOURCE * scale), jnp.asarray(TARGET * scale)
        return transfer(
            KEY,
            lambda x: jnp.tile(x.reshape(16, 12) @ source, (2, 1)).T,
            lambda x: jnp.tile(x.reshape(16, 12) @ target, (2, 1)).T,
            IMAGES,
            LABELS,
            THREAT,
            steps=2,
        )

    run(1.0)
    with count_compilations() as compiled:
        run(1.5)
        assert compiled() == 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="attack=pgd: accepted are attacks"):
        attack(attack="pgd")
    with pytest.raises(ValueError, match="steps=-1: accepted are"):
        attack(steps=-1)
    with pytest.raises(ValueError, match="threat=float"):
        attack(threat=0.1)
