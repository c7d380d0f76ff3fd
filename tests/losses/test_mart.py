"""MART's coefficients, limits and the identities that its parts obey."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses

RNG = np.random.default_rng(0)
CLEAN, ADVERSARIAL = RNG.standard_normal((2, 16, 5)).astype(np.float32)
LABELS = RNG.integers(0, 5, 16)


def test_beta_may_be_traced_and_differ_between_examples():
    loss = jax.jit(lambda beta: losses.mart(CLEAN, ADVERSARIAL, LABELS, beta=beta))
    betas = jnp.arange(16.0)
    boosted, regulariser = loss(0.0), loss(1.0) - loss(0.0)
    np.testing.assert_allclose(boosted, losses.boosted_cross_entropy(ADVERSARIAL, LABELS))
    assert np.all(regulariser > 0)
    np.testing.assert_allclose(loss(betas), boosted + betas * regulariser, rtol=1e-5)


def test_without_boost_and_weight_it_is_trades_with_the_cross_entropy_moved():
    found = losses.mart(
        CLEAN, ADVERSARIAL, LABELS, beta=3.0, classifier="ce", weighted=False
    ) - losses.cross_entropy(ADVERSARIAL, LABELS)
    expected = losses.trades(CLEAN, ADVERSARIAL, LABELS, beta=3.0) - losses.cross_entropy(
        CLEAN, LABELS
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [100.0, 1e3, 1e6])
def test_extreme_logits_have_the_values_and_gradients_that_the_limit_gives(scale):
    right = np.array([scale, 0.0, 0.0], np.float32)
    wrong = np.array([0.0, scale, 0.0], np.float32)
    clean, adversarial = np.stack([right, right, wrong, wrong]), np.stack([right, wrong] * 2)

    @jax.jit
    def value_and_gradients(clean, adversarial):
        def total(clean, adversarial):
            return losses.mart(clean, adversarial, np.zeros(4, int), beta=5.0).sum()

        value = losses.mart(clean, adversarial, np.zeros(4, int), beta=5.0)
        return value, jax.grad(total, (0, 1))(clean, adversarial)

    value, (by_clean, by_adversarial) = value_and_gradients(clean, adversarial)
    # Right and sure on the clean image, 1 − p_y = 0 removes the KL; wrong, it stands in full.
    boosted = 2 * scale - np.log(2)
    np.testing.assert_allclose(value, [0, boosted, 5 * scale, boosted], rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(by_clean, np.zeros((4, 3)), atol=1e-30)
    of_boosted = np.array([-1.5, 2.0, -0.5])
    expected = [np.zeros(3), of_boosted, [5.0, -5.0, 0.0], of_boosted]
    np.testing.assert_allclose(by_adversarial, expected, atol=1e-6)
