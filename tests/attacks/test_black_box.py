"""Random noise and transfer: the baselines that need no access to the network."""

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks
from robustjax.attacks import ThreatModel

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(12, 3)).astype(np.float32)
IMAGES = RANDOM.uniform(size=(30, 2, 2, 3)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(30, 12) @ WEIGHTS, axis=1)
THREAT = ThreatModel("linf", 0.15)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def other(images):
    return images.reshape(len(images), -1) @ (WEIGHTS[:, ::-1] * jnp.array([1.0, 0.5, 2.0]))


def test_noise_is_weaker_than_a_gradient_and_more_draws_are_not_weaker():
    one, many = (
        attacks.random_noise(KEY, linear, IMAGES, LABELS, THREAT, draws=draws) for draws in (1, 50)
    )
    fgsm = attacks.fgsm(KEY, linear, IMAGES, LABELS, THREAT)
    assert 0 < one.success.sum() < many.success.sum() < fgsm.success.sum()
    assert np.all(many.success[np.asarray(one.success)])
    assert np.abs(many.images - IMAGES).max() <= 0.15 + 1e-6
    np.testing.assert_array_equal(many.backward_passes, 0)


def test_transfer_to_the_source_itself_is_the_attack():
    options = {"steps": 5, "step_size": 0.05}
    direct = attacks.pgd(KEY, linear, IMAGES, LABELS, THREAT, **options)
    found = attacks.transfer(KEY, linear, linear, IMAGES, LABELS, THREAT, **options)
    np.testing.assert_array_equal(found.images, direct.images)
    np.testing.assert_array_equal(found.success, direct.success)
    np.testing.assert_array_equal(found.backward_passes, direct.backward_passes)


def test_transfer_is_judged_by_the_target():
    found = attacks.transfer(KEY, linear, other, IMAGES, LABELS, THREAT, attack=attacks.fgsm)
    made = attacks.fgsm(KEY, linear, IMAGES, LABELS, THREAT)
    np.testing.assert_array_equal(found.images, made.images)
    judged = np.argmax(other(np.asarray(made.images)), 1) != LABELS
    np.testing.assert_array_equal(found.success, judged)
    assert np.any(judged != np.asarray(made.success))
