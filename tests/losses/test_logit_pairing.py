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


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight": 0.7, "alpha": 0.3}])
def test_the_value_is_equations_2_and_9(soft, options):
    clean, adversarial, labels = draw(2.0)
    targets = np.random.default_rng(1).dirichlet(np.ones(10), 16) if soft else np.eye(10)[labels]
    found = losses.adversarial_logit_pairing(
        clean, adversarial, np.float32(targets) if soft else labels, **options
    )
    # Without options half of the square, and adversarial images alone, as LRM's baseline.
    weight, alpha = options.get("weight", 0.5), options.get("alpha", 0.0)
    scored = alpha * np.log(softmax(clean)) + (1 - alpha) * np.log(softmax(adversarial))
    square = np.linalg.norm(np.float64(clean) - adversarial, axis=1) ** 2
    np.testing.assert_allclose(found, weight * square - (targets * scored).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_probabilities_are_paired_as_table_1_of_mart_has_alp_and_clp(alpha):
    clean, adversarial, labels = draw(2.0)
    found = losses.adversarial_logit_pairing(
        clean, adversarial, labels, weight=0.7, alpha=alpha, pairs="probabilities"
    )
    p, q = softmax(clean), softmax(adversarial)
    scored = (q if alpha == 0 else p)[np.arange(16), labels]
    np.testing.assert_allclose(found, 0.7 * ((p - q) ** 2).sum(-1) - np.log(scored), rtol=1e-5)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "logit"}, "adversarial_logit_pairing: pairs=logit: .*did you mean 'logits'"),
        ({"alpha": 2}, "adversarial_logit_pairing: alpha=2: accepted are 0 to 1"),
        ({"weight": -1}, "adversarial_logit_pairing: weight=-1: accepted are finite numbers, 0 or"),
    ],
)
def test_what_is_not_accepted_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        losses.adversarial_logit_pairing(*draw(1.0), **options)


def test_pairing_says_which_shapes_differ():
    clean, adversarial, _ = draw(1.0)
    with pytest.raises(ValueError, match=r"logit_pairing: .*\[15, 10\]: .* of one shape"):
        losses.logit_pairing(clean, adversarial[:15])
