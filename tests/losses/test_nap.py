"""NAP's margin and gradients where probabilities are near one, near each other or far apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses


@functools.cache
def value_and_gradients(beta):
    loss = functools.partial(losses.nap, beta=beta)
    gradients = jax.grad(lambda *arguments: loss(*arguments).sum(), (0, 1))
    return jax.jit(lambda *arguments: (loss(*arguments), gradients(*arguments)))


@pytest.mark.parametrize(
    ("clean_odds", "adversarial_odds"),
    [(1.0, -1.0), (0.501, 0.5), (30.0, 25.0), (40.0, 1.0), (-20.0, -25.0), (80.0, -80.0)],
)
def test_the_margin_keeps_its_relative_precision(clean_odds, adversarial_odds):
    """With two classes p_y is the sigmoid of the log-odds; the clean gradient is all margin."""
    clean = np.array([[clean_odds, 0.0]], np.float32)
    adversarial = np.array([[adversarial_odds, 0.0]], np.float32)
    _, (by_clean, _) = value_and_gradients(4.0)(clean, adversarial, np.array([0]))
    a, b = np.float64(clean[0, 0]), np.float64(adversarial[0, 0])
    # 1 / (1 + e⁻ᵃ) − 1 / (1 + e⁻ᵇ) over the common denominator.
    margin = (np.exp(-b) - np.exp(-a)) / ((1 + np.exp(-a)) * (1 + np.exp(-b)))
    expected = -4 * margin * -(np.exp(-a) / (1 + np.exp(-a)))
    np.testing.assert_allclose(by_clean, [[expected, -expected]], rtol=3e-4 if a < 1 else 2e-5)


def test_no_penalty_where_the_adversarial_image_is_the_easier_one():
    easier = np.array([[3.0, 0.0, -1.0], [0.5, 0.5, 0.5]], np.float32)
    clean = np.array([[1.0, 0.0, 2.0], [0.5, 0.5, 0.5]], np.float32)
    labels = np.array([0, 1])
    value, (by_clean, _) = value_and_gradients(6.0)(clean, easier, labels)
    np.testing.assert_array_equal(value, losses.boosted_cross_entropy(easier, labels))
    np.testing.assert_array_equal(by_clean, 0)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("scale", [100.0, 1e3, 1e6])
def test_extreme_logits_have_the_values_that_the_limit_gives(ahead, scale):
    """p_y is 1 on one image and 0 on the other, so the margin is 1 or 0, and CE and BCE linear."""
    right = np.array([[scale, 0.0, 0.0]], np.float32)
    wrong = np.array([[0.0, scale, 0.0]], np.float32)
    clean, adversarial = (right, wrong) if ahead else (wrong, right)
    value, (by_clean, by_adversarial) = value_and_gradients(6.0)(clean, adversarial, np.array([0]))
    # Of the wrong one, −log p_y = s and −log(1 − p_1) = s − log 2.
    np.testing.assert_allclose(value, [2 * scale - np.log(2) if ahead else 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_clean, np.zeros((1, 3)), atol=1e-30)
    expected = [[-1.5, 2.0, -0.5]] if ahead else [[0.0, 0.0, 0.0]]
    np.testing.assert_allclose(by_adversarial, expected, atol=1e-6)


def test_beta_may_be_traced_and_differ_between_examples():
    rng = np.random.default_rng(0)
    clean, adversarial = rng.standard_normal((2, 16, 5)).astype(np.float32)
    labels = rng.integers(0, 5, 16)
    loss = jax.jit(lambda beta: losses.nap(clean, adversarial, labels, beta=beta))
    betas = jnp.arange(16.0)
    boosted, penalty = loss(0.0), loss(0.0) - loss(1.0)
    np.testing.assert_allclose(boosted, losses.boosted_cross_entropy(adversarial, labels))
    assert np.any(penalty > 0.1) and np.any(penalty == 0)
    np.testing.assert_allclose(loss(betas), boosted - betas * penalty, rtol=1e-5, atol=1e-5)
