"""Classes that a network rules out, with a logit of −∞, change no loss and no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses

LOGITS = jnp.array([[2.0, 1.0, -0.5], [0.0, 3.0, 0.5]])
PADDED = jnp.pad(LOGITS, ((0, 0), (0, 2)), constant_values=-jnp.inf)
OTHER = jnp.array([[0.5, 1.0, 0.0], [0.2, 0.1, 2.0]])
OTHER_PADDED = jnp.pad(OTHER, ((0, 0), (0, 2)), constant_values=-jnp.inf)
LABELS = jnp.array([0, 2])
SOFT = jnp.array([[0.7, 0.3, 0.0], [0.0, 0.5, 0.5]])
SOFT_PADDED = jnp.pad(SOFT, ((0, 0), (0, 2)))

OF_ONE = {
    "cross_entropy": losses.cross_entropy,
    "boosted_cross_entropy": losses.boosted_cross_entropy,
    "cw_margin": losses.cw_margin,
    "dlr": losses.dlr,
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_loss_of_one_prediction(name):
    def total(logits):
        return jnp.sum(OF_ONE[name](logits, LABELS))

    value, gradient = jax.value_and_grad(total)(LOGITS)
    padded, padded_gradient = jax.value_and_grad(total)(PADDED)
    np.testing.assert_allclose(padded, value, rtol=1e-6)
    np.testing.assert_allclose(padded_gradient[:, :3], gradient, rtol=1e-5, atol=1e-7)
    assert not np.any(padded_gradient[:, 3:])


def test_soft_labels():
    value, gradient = jax.value_and_grad(
        lambda logits, labels: jnp.sum(losses.cross_entropy(logits, labels)), argnums=(0, 1)
    )(PADDED, SOFT_PADDED)
    np.testing.assert_allclose(value, jnp.sum(losses.cross_entropy(LOGITS, SOFT)), rtol=1e-6)
    assert np.all(np.isfinite(gradient[0])) and np.all(np.isfinite(gradient[1]))


@pytest.mark.parametrize("name", ["kl_divergence", "logit_pairing", "adversarial_logit_pairing"])
def test_a_loss_of_two_predictions(name):
    loss = getattr(losses, name)
    if name == "adversarial_logit_pairing":
        value, padded = loss(LOGITS, OTHER, LABELS), loss(PADDED, OTHER_PADDED, LABELS)
    else:
        value, padded = loss(LOGITS, OTHER), loss(PADDED, OTHER_PADDED)
    np.testing.assert_allclose(padded, value, rtol=1e-5)


ALONE = {
    "cross_entropy": losses.cross_entropy,
    "boosted_cross_entropy": losses.boosted_cross_entropy,
    "trades": lambda logits, labels: losses.trades(logits, logits, labels, beta=6.0),
    "mart": lambda logits, labels: losses.mart(logits, logits, labels, beta=5.0),
    "nap": lambda logits, labels: losses.nap(logits, logits, labels, beta=6.0),
}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_where_all_other_classes_are_ruled_out_nothing_is_lost(name, label):
    logits = jnp.full((1, 3), -jnp.inf).at[0, label].set(3.0)
    value, gradient = jax.value_and_grad(lambda logits: ALONE[name](logits, jnp.array([label]))[0])(
        logits
    )
    assert value == 0 and not np.any(gradient)


def test_nap_of_a_certain_and_an_uncertain_prediction():
    certain, other = jnp.array([[3.0, -jnp.inf, -jnp.inf]]), jnp.array([[1.0, 1.0, -jnp.inf]])
    labels = jnp.array([0])
    # The margin of 1/2 weighs a cross-entropy of nothing; the other way round there is no margin.
    lost = losses.boosted_cross_entropy(other, labels)
    np.testing.assert_allclose(losses.nap(certain, other, labels, beta=6.0), lost)
    np.testing.assert_allclose(losses.nap(other, certain, labels, beta=6.0), [0.0])


def test_with_too_few_classes_for_a_spread_dlr_is_the_difference():
    logits = jnp.array([[2.0, 1.5, -jnp.inf, -jnp.inf]])
    gradient = jax.grad(lambda logits: losses.dlr(logits, jnp.array([0]))[0])(logits)
    np.testing.assert_allclose(losses.dlr(logits, jnp.array([0])), [-0.5], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1, 1, 0, 0]])
    found = losses.targeted_dlr(logits, jnp.array([0]), jnp.array([1]))
    np.testing.assert_allclose(found, [-0.5], rtol=1e-6)
