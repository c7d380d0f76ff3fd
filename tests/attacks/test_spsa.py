"""SPSA against the gradient of a linear model, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=12).astype(np.float32)
WEIGHTS += np.sign(WEIGHTS) * 0.5  # no pixel that hardly matters
IMAGES = RANDOM.uniform(0.3, 0.7, size=(6, 2, 2, 3)).astype(np.float32)
LABELS = np.array([0, 1, 0, 1, 0, 1])
UPHILL = np.where(LABELS == 0, 1, -1)[:, None] * WEIGHTS


def linear(images, offset=30.0):
    """Two classes; the true one leads by so much that nothing is broken."""
    score = images.reshape(len(images), -1) @ WEIGHTS
    return jnp.stack([jnp.zeros_like(score), score], axis=1) + offset * 0


def far(images):
    """The same margin's slope, where no example is ever misclassified."""
    score = images.reshape(len(images), -1) @ WEIGHTS
    lead = jnp.asarray(np.resize(np.where(LABELS == 0, -50.0, 50.0), len(images)))
    return jnp.stack([jnp.zeros_like(score), score + lead], axis=1)


def flat(images):
    return np.asarray(images, np.float64).reshape(len(images), -1)


def test_the_estimate_is_the_gradient_up_to_noise():
    # Adam's first step is the sign of the estimate times the learning rate.
    threat = ThreatModel("linf", 0.3, None)
    result = attacks.spsa(
        KEY, far, IMAGES, LABELS, threat, steps=1, samples=4096, learning_rate=0.02, chunk=64
    )
    np.testing.assert_allclose(
        flat(result.images) - flat(IMAGES), 0.02 * np.sign(UPHILL), rtol=1e-3
    )


def test_it_walks_into_the_corner():
    result = attacks.spsa(
        KEY, far, IMAGES, LABELS, ThreatModel("linf", 0.1, None), steps=20, samples=512
    )
    corner = flat(IMAGES) + 0.1 * np.sign(UPHILL)
    np.testing.assert_allclose(flat(result.images), corner, atol=1e-6)
    np.testing.assert_array_equal(result.backward_passes, 0)
    assert not np.any(result.success)


def test_it_breaks_what_can_be_broken_and_stops_there():
    epsilon = 0.08
    margin = -(flat(IMAGES) * UPHILL).sum(1)  # z_y - z_other
    epsilon_needed = margin / np.abs(WEIGHTS).sum()
    labels = np.where(margin < 0, 1 - LABELS, LABELS)  # all correct
    needed = np.abs(epsilon_needed)
    assert 0 < (needed < epsilon).sum() < 6
    result = attacks.spsa(
        KEY, linear, IMAGES, labels, ThreatModel("linf", epsilon), steps=20, samples=512
    )
    np.testing.assert_array_equal(result.success, needed < epsilon)
    moved = np.abs(flat(result.images) - flat(IMAGES)).max(1)
    assert moved.max() <= epsilon + 1e-6
    # From there one more step would be too far: it stopped at the first success.
    assert np.all(moved[np.asarray(result.success)] <= needed[np.asarray(result.success)] + 0.02)
    wrong = np.argmax(linear(np.asarray(result.images)), 1) != labels
    np.testing.assert_array_equal(result.success, wrong)


def test_the_company_and_the_chunk_change_nothing():
    threat = ThreatModel("linf", 0.1)
    keys = jax.random.split(KEY, 6)
    whole = attacks.spsa(keys, far, IMAGES, LABELS, threat, steps=2, samples=64, chunk=32)
    part = attacks.spsa(keys[2:4], far, IMAGES[2:4], LABELS[2:4], threat, steps=2, samples=64)
    np.testing.assert_allclose(part.images, whole.images[2:4], atol=1e-5)
    still = attacks.spsa(KEY, far, IMAGES, LABELS, ThreatModel("linf", 0.0), steps=2, samples=8)
    np.testing.assert_array_equal(still.images, IMAGES)
    wrong = attacks.spsa(KEY, far, IMAGES, 1 - LABELS, threat, steps=2, samples=8)
    assert wrong.success.all()
    np.testing.assert_array_equal(wrong.images, IMAGES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 7}, "samples is 7; it must be even"),
        ({"samples": 0}, "samples is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"threat": ThreatModel("l2", 1.0)}, "threat.norm is 'l2'; spsa needs"),
    ],
)
def test_mistakes_are_named(change, message):
    threat = change.pop("threat", ThreatModel())
    with pytest.raises(ValueError, match=message):
        attacks.spsa(KEY, far, IMAGES, LABELS, threat, **change)
