"""Logit pairing and squeezing: closed-form gradients, limits, and coefficients per example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses


def draw(scale, num_classes=10):
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((2, 16, num_classes)) * scale).astype(np.float32)
    return *logits, rng.integers(0, num_classes, 16)


def softmax(logits):
    weights = np.exp(np.float64(logits) - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_the_gradients_are_those_of_the_mixed_cross_entropy_and_twice_the_difference(scale):
    clean, adversarial, labels = draw(scale)
    alpha, weight = np.linspace(0, 1, 16), np.linspace(2, 0, 16)

    def total(clean, adversarial):
        return losses.adversarial_logit_pairing(
            clean, adversarial, labels, weight=weight, alpha=alpha
        ).sum()

    by_clean, by_adversarial = jax.grad(total, (0, 1))(clean, adversarial)
    one_hot, share = np.eye(10)[labels], alpha[:, None]
    pull = 2 * weight[:, None] * (np.float64(clean) - adversarial)
    expected = share * (softmax(clean) - one_hot) + pull
    np.testing.assert_allclose(by_clean, expected, rtol=1e-5, atol=1e-6)
    expected = (1 - share) * (softmax(adversarial) - one_hot) - pull
    np.testing.assert_allclose(by_adversarial, expected, rtol=1e-5, atol=1e-6)


def test_defaults_are_half_the_square_and_adversarial_images_alone():
    clean, adversarial, labels = draw(1.0)
    found = losses.adversarial_logit_pairing(clean, adversarial, labels)
    square = ((np.float64(clean) - adversarial) ** 2).sum(-1)
    expected = losses.cross_entropy(adversarial, labels) + 0.5 * square
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_coefficients_may_be_traced():
    clean, adversarial, labels = draw(1.0)
    loss = jax.jit(
        lambda weight, alpha: losses.adversarial_logit_pairing(
            clean, adversarial, labels, weight=weight, alpha=alpha
        )
    )
    np.testing.assert_allclose(loss(0.0, 1.0), losses.cross_entropy(clean, labels), rtol=1e-6)
    square = loss(1.0, 1.0) - loss(0.0, 1.0)
    np.testing.assert_allclose(square, losses.logit_pairing(clean, adversarial), rtol=1e-5)
    weights = jnp.arange(16.0)
    np.testing.assert_allclose(
        loss(weights, 1.0), losses.cross_entropy(clean, labels) + weights * square, rtol=1e-5
    )


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e6])
def test_pairing_sees_only_the_difference_and_squeezing_is_pairing_with_zero(scale):
    clean, adversarial, _ = draw(scale)
    square = (np.float64(clean) - adversarial) ** 2
    found = losses.logit_pairing(clean, adversarial)
    np.testing.assert_allclose(found, square.sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(losses.logit_pairing(adversarial, clean), found)
    np.testing.assert_array_equal(losses.logit_pairing(clean, clean), 0)
    squeezed = losses.logit_squeezing(clean)
    np.testing.assert_array_equal(squeezed, losses.logit_pairing(clean, np.zeros_like(clean)))


def test_pairing_says_which_shapes_differ():
    clean, adversarial, _ = draw(1.0)
    with pytest.raises(ValueError, match=r"logit_pairing: logits must have the same .*\(15, 10"):
        losses.logit_pairing(clean, adversarial[:15])
