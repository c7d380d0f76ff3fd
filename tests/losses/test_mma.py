"""The soft logit margin's closed forms: two classes, equal logits, and its gradient."""

import jax
import numpy as np
import pytest

from robustjax import losses


def test_with_two_classes_it_is_the_margin_itself():
    logits = np.array([[3.0, 1.0], [3.0, 1.0]], np.float32)
    margin = losses.soft_logit_margin(logits, np.array([0, 1]))
    np.testing.assert_array_equal(margin, [-2.0, 2.0])


@pytest.mark.parametrize("num_classes", [3, 100])
@pytest.mark.parametrize("level", [-1e4, 0.0, 1e4])
def test_equal_logits_are_misclassified_by_the_number_of_wrong_classes(num_classes, level):
    logits = np.full((1, num_classes), level, np.float32)
    margin = losses.soft_logit_margin(logits, np.array([1]))
    np.testing.assert_allclose(margin, np.log(num_classes - 1), rtol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3, 1e6])
def test_the_gradient_is_the_softmax_of_the_wrong_classes_less_the_true_one(num_classes, scale):
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((8, num_classes)) * scale).astype(np.float32)
    labels = rng.integers(0, num_classes, 8)
    gradient = jax.grad(lambda logits: losses.soft_logit_margin(logits, labels).sum())(logits)
    one_hot = np.eye(num_classes)[labels]
    wrong = np.where(one_hot > 0, -np.inf, np.float64(logits))
    weights = np.exp(wrong - wrong.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) - one_hot
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
