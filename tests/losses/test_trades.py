"""The TRADES loss against float64 NumPy and its closed-form gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def draw(scale):
    rng = np.random.default_rng(0)
    clean, adversarial = (rng.standard_normal((2, 16, 10)) * scale).astype(np.float32)
    return clean, adversarial, rng.integers(0, 10, 16)


@jax.jit
def value_and_gradients(clean, adversarial, labels):
    def total(clean, adversarial):
        return losses.trades(clean, adversarial, labels, beta=2.5).sum()

    value = losses.trades(clean, adversarial, labels, beta=2.5)
    return value, jax.grad(total, argnums=(0, 1))(clean, adversarial)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("soft", [False, True])
def test_value_and_both_gradients_agree_with_float64(scale, soft):
    clean, adversarial, labels = draw(scale)
    target = np.eye(10, dtype=np.float32)[labels]
    if soft:
        target = 0.9 * target + np.float32(0.01)
    log_p, log_q = log_softmax(clean), log_softmax(adversarial)
    p, q = np.exp(log_p), np.exp(log_q)
    divergence = (p * (log_p - log_q)).sum(-1)
    expected = -(target * log_p).sum(-1) + 2.5 * divergence
    clean_gradient = p * target.sum(-1, keepdims=True) - target
    clean_gradient += 2.5 * p * (log_p - log_q - divergence[:, None])

    value, gradients = value_and_gradients(clean, adversarial, target if soft else labels)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradients[0], clean_gradient, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(gradients[1], 2.5 * (q - p), rtol=1e-5, atol=1e-5)


def test_default_beta_is_six_and_identical_predictions_leave_the_cross_entropy():
    clean, adversarial, labels = draw(1.0)
    natural = losses.cross_entropy(clean, labels)
    np.testing.assert_array_equal(losses.trades(clean, clean, labels), natural)
    divergence = losses.kl_divergence(clean, adversarial)
    np.testing.assert_allclose(
        losses.trades(clean, adversarial, labels), natural + 6 * divergence, rtol=1e-6
    )


def test_beta_may_be_traced_and_differ_between_examples():
    clean, adversarial, labels = draw(1.0)
    loss = jax.jit(lambda beta: losses.trades(clean, adversarial, labels, beta=beta))
    betas = jnp.arange(16.0)
    natural, divergence = loss(0.0), loss(1.0) - loss(0.0)
    assert np.all(divergence > 0)
    np.testing.assert_allclose(loss(betas), natural + betas * divergence, rtol=1e-5)
    np.testing.assert_allclose(loss(3.0), natural + 3 * divergence, rtol=1e-5)


@pytest.mark.parametrize("beta", [-1.0, np.inf])
def test_a_beta_that_makes_no_sense_is_refused(beta):
    with pytest.raises(ValueError, match="trades: beta=.*: accepted are finite numbers, 0 or more"):
        losses.trades(*draw(1.0), beta=beta)


def test_shapes_that_do_not_fit_are_refused():
    clean, adversarial, labels = draw(1.0)
    with pytest.raises(
        ValueError,
        match=r"beta=float\d+\[3\]: .* one for each example, \[16\]",
    ):
        losses.trades(clean, adversarial, labels, beta=np.ones(3))
    with pytest.raises(
        ValueError,
        match=r"clean_logits=float32\[16, 10\], adv.*\[15, 10\]: .* one shape",
    ):
        losses.trades(clean, adversarial[:15], labels)
