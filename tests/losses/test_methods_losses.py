"""The losses of MART, NAP and MMA against float64 NumPy from the formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import losses

SCALES = (1e-2, 1.0, 30.0)


def case(scale, num_classes=5, batch=7, seed=0):
    rng = np.random.default_rng(seed)
    clean, adversarial = scale * rng.normal(size=(2, batch, num_classes))
    return clean, adversarial, rng.integers(0, num_classes, batch)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def pick(values, labels):
    return values[np.arange(len(labels)), labels]


def cross_entropy(logits, labels):
    return -pick(log_softmax(logits), labels)


def boosted(logits, labels):
    """−log p_y − log(1 − max of the others), the latter as the log of a sum without that class."""
    wrong = logits.copy()
    wrong[np.arange(len(labels)), labels] = -np.inf
    best = wrong.argmax(axis=1)
    rest = logits.copy()
    rest[np.arange(len(labels)), best] = -np.inf
    peak = logits.max(axis=1)
    log_rest = np.log(np.exp(rest - peak[:, None]).sum(axis=1))
    log_all = np.log(np.exp(logits - peak[:, None]).sum(axis=1))
    return cross_entropy(logits, labels) - (log_rest - log_all)


def divergence(p_logits, q_logits):
    p = np.exp(log_softmax(p_logits))
    return (p * (log_softmax(p_logits) - log_softmax(q_logits))).sum(axis=1)


def probability(logits, labels):
    return np.exp(pick(log_softmax(logits), labels))


def expected_mart(clean, adversarial, labels, beta, classifier, kl, weighted):
    first = {
        "bce": lambda: boosted(adversarial, labels),
        "ce": lambda: cross_entropy(adversarial, labels),
        "natural_bce": lambda: boosted(clean, labels),
    }[classifier]()
    regulariser = divergence(clean, adversarial) if kl else float(weighted)
    if weighted:
        others = np.stack(
            [np.delete(row, y) for row, y in zip(np.exp(log_softmax(clean)), labels, strict=True)]
        )
        regulariser = regulariser * others.sum(axis=1)
    return first + beta * regulariser


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("num_classes", [2, 5, 100])
def test_mart_is_equation_11(scale, num_classes):
    clean, adversarial, labels = case(scale, num_classes)
    found = losses.mart(np.float32(clean), np.float32(adversarial), labels, beta=5.0)
    clean, adversarial = np.float64(np.float32(clean)), np.float64(np.float32(adversarial))
    expected = expected_mart(clean, adversarial, labels, 5.0, "bce", True, True)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("classifier", ["bce", "ce", "natural_bce"])
@pytest.mark.parametrize("kl", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_ablations_of_mart(classifier, kl, weighted):
    clean, adversarial, labels = case(2.0)
    found = losses.mart(
        clean, adversarial, labels, beta=3.0, classifier=classifier, divergence=kl,
        weighted=weighted,
    )  # fmt: skip
    expected = expected_mart(clean, adversarial, labels, 3.0, classifier, kl, weighted)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("use_boost", [True, False])
@pytest.mark.parametrize("use_margin", [True, False])
def test_nap_and_its_ablations_are_equations_4_and_11_to_13(scale, use_boost, use_margin):
    clean, adversarial, labels = case(scale)
    clean, adversarial = np.float64(np.float32(clean)), np.float64(np.float32(adversarial))
    found = losses.nap(
        np.float32(clean), np.float32(adversarial), labels, beta=4.0, boosted=use_boost,
        margin=use_margin,
    )  # fmt: skip
    margin = np.maximum(probability(clean, labels) - probability(adversarial, labels), 0)
    first = (boosted if use_boost else cross_entropy)(adversarial, labels)
    expected = first - 4.0 * (margin if use_margin else 1.0) * cross_entropy(clean, labels)
    np.testing.assert_allclose(found, expected, rtol=5e-6, atol=3e-6)


def numeric_gradient(function, point, step=1e-6):
    found = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        moved = [point.copy(), point.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        found[place] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found


def test_the_margin_of_nap_is_a_constant_to_its_gradient():
    clean, adversarial, labels = case(1.5)
    margin = np.maximum(probability(clean, labels) - probability(adversarial, labels), 0)
    assert np.any(margin == 0) and np.any(margin > 0)
    with jax.enable_x64(True):
        by_clean, by_adversarial = jax.grad(
            lambda z, w: jnp.sum(losses.nap(z, w, labels, beta=2.0)), (0, 1)
        )(jnp.asarray(clean), jnp.asarray(adversarial))
    expected = numeric_gradient(lambda z: -(2.0 * margin * cross_entropy(z, labels)).sum(), clean)
    np.testing.assert_allclose(by_clean, expected, rtol=1e-6, atol=1e-9)
    expected = numeric_gradient(lambda w: boosted(w, labels).sum(), adversarial)
    np.testing.assert_allclose(by_adversarial, expected, rtol=1e-6, atol=1e-9)


def test_every_factor_of_mart_takes_part_in_its_gradient():
    clean, adversarial, labels = case(1.5)
    with jax.enable_x64(True):
        found = jax.grad(lambda z, w: jnp.sum(losses.mart(z, w, labels, beta=2.0)), (0, 1))(
            jnp.asarray(clean), jnp.asarray(adversarial)
        )
    mart = functools.partial(expected_mart, beta=2.0, classifier="bce", kl=True, weighted=True)
    expected = (
        numeric_gradient(lambda z: mart(z, adversarial, labels).sum(), clean),
        numeric_gradient(lambda w: mart(clean, w, labels).sum(), adversarial),
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", SCALES)
def test_the_soft_logit_margin_bounds_the_margin(scale):
    logits, _, labels = case(scale)
    found = np.float64(losses.soft_logit_margin(logits, labels))
    wrong = np.stack([np.delete(row, y) for row, y in zip(logits, labels, strict=True)])
    peak = wrong.max(axis=1)
    expected = peak + np.log(np.exp(wrong - peak[:, None]).sum(axis=1)) - pick(logits, labels)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    margin = peak - pick(logits, labels)
    assert np.all((found >= margin - 1e-5) & (found <= margin + np.log(4) + 1e-5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda *a: losses.mart(*a, classifier="kl"), "classifier=kl: accepted are"),
        (lambda *a: losses.mart(*a, beta=-1), "beta=-1: accepted are finite numbers, 0 or more"),
        (lambda *a: losses.nap(*a, beta=-1), "beta=-1: accepted are finite numbers, 0 or more"),
    ],
)
def test_what_is_not_accepted_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*case(1.0))
