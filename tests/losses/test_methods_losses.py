"""The losses of MART, NAP, logit pairing, LRM and MMA against float64 NumPy from the formulas."""

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


@pytest.mark.parametrize("soft", [False, True])
def test_logit_pairing_is_equations_2_and_9(soft):
    clean, adversarial, labels = case(2.0)
    targets = np.random.default_rng(1).dirichlet(np.ones(5), 7) if soft else np.eye(5)[labels]
    found = losses.adversarial_logit_pairing(
        np.float32(clean), np.float32(adversarial), np.float32(targets) if soft else labels,
        weight=0.7, alpha=0.3,
    )  # fmt: skip
    mixed = -(targets * (0.3 * log_softmax(clean) + 0.7 * log_softmax(adversarial))).sum(axis=1)
    pairing = np.linalg.norm(clean - adversarial, axis=1) ** 2
    np.testing.assert_allclose(found, mixed + 0.7 * pairing, rtol=1e-5)
    np.testing.assert_allclose(losses.logit_pairing(clean, adversarial), pairing, rtol=1e-5)
    squeezed = np.linalg.norm(clean, axis=1) ** 2
    np.testing.assert_allclose(losses.logit_squeezing(clean), squeezed, rtol=1e-5)


def expected_lrm(clean, adversarial, labels, ratio, squeezing, reading, alpha, constant=None):
    loss = alpha * cross_entropy(clean, labels) + (1 - alpha) * cross_entropy(adversarial, labels)
    pairing = -(np.exp(log_softmax(clean)) * log_softmax(adversarial)).sum(axis=1)
    constant = loss.mean() / pairing.mean() if constant is None else constant
    squeezed = squeezing * ((clean**2).sum(axis=1) + (adversarial**2).sum(axis=1))
    if reading == "A":
        return loss + constant * pairing / ratio + squeezed
    return ratio * loss + (1 - ratio) * constant * pairing + squeezed


@pytest.mark.parametrize("reading", ["A", "B"])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_lrm_in_both_readings(reading, alpha):
    clean, adversarial, labels = case(2.0)
    options = {"squeezing": 0.02, "reading": reading, "alpha": alpha}
    found = losses.lrm(clean, adversarial, labels, pairing_ratio=0.25, **options)
    expected = expected_lrm(clean, adversarial, labels, 0.25, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    without_squeezing = losses.lrm(
        clean, adversarial, labels, pairing_ratio=0.25, **{**options, "squeezing": 0.0}
    )
    # What the two readings are about: the pairing's share of the whole value.
    loss = losses.lrm(clean, adversarial, labels, pairing_ratio=None, squeezing=0.0, alpha=alpha)
    whole = {"A": (1 + 1 / 0.25) * loss.mean(), "B": loss.mean()}[reading]
    np.testing.assert_allclose(without_squeezing.mean(), whole, rtol=1e-5)


@pytest.mark.parametrize("reading", ["A", "B"])
def test_the_ratio_of_lrm_is_a_constant_to_its_gradient(reading):
    clean, adversarial, labels = case(1.5)
    pairing = -(np.exp(log_softmax(clean)) * log_softmax(adversarial)).sum(axis=1).mean()
    constant = cross_entropy(adversarial, labels).mean() / pairing
    with jax.enable_x64(True):
        found = jax.grad(
            lambda z, w: jnp.sum(losses.lrm(z, w, labels, pairing_ratio=0.3, reading=reading)),
            (0, 1),
        )(jnp.asarray(clean), jnp.asarray(adversarial))
    lrm = functools.partial(
        expected_lrm, labels=labels, ratio=0.3, squeezing=1e-3, reading=reading, alpha=0.0,
        constant=constant,
    )  # fmt: skip
    expected = (
        numeric_gradient(lambda z: lrm(z, adversarial).sum(), clean),
        numeric_gradient(lambda w: lrm(clean, w).sum(), adversarial),
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("direction", ["clean", "adversarial"])
def test_the_reference_of_lrm_may_be_held_fixed(direction):
    clean, adversarial, labels = case(1.5)
    options = {"pairing_ratio": 0.3, "squeezing": 0.0, "direction": direction}
    value = losses.lrm(clean, adversarial, labels, **options)
    detached = losses.lrm(clean, adversarial, labels, detached_reference=True, **options)
    np.testing.assert_array_equal(value, detached)
    with jax.enable_x64(True):
        by_clean, by_adversarial = jax.grad(
            lambda z, w: jnp.sum(losses.lrm(z, w, labels, detached_reference=True, **options)),
            (0, 1),
        )(jnp.asarray(clean), jnp.asarray(adversarial))
    p, q = np.exp(log_softmax(clean)), np.exp(log_softmax(adversarial))
    error = q - np.eye(5)[labels]
    entropy = cross_entropy(adversarial, labels).mean()
    if direction == "clean":
        scale = entropy / -(p * np.log(q)).sum(axis=1).mean() / 0.3
        np.testing.assert_array_equal(by_clean, 0)
        np.testing.assert_allclose(by_adversarial, error + scale * (q - p), rtol=1e-6, atol=1e-9)
    else:
        scale = entropy / -(q * np.log(p)).sum(axis=1).mean() / 0.3
        np.testing.assert_allclose(by_clean, scale * (p - q), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(by_adversarial, error, rtol=1e-6, atol=1e-9)


def test_the_ratio_of_lrm_is_that_of_the_batch_over_all_devices():
    clean, adversarial, labels = case(2.0, batch=8)
    whole = losses.lrm(clean, adversarial, labels)
    split = [part.reshape(4, 2, *part.shape[1:]) for part in (clean, adversarial, labels)]
    spread = jax.vmap(functools.partial(losses.lrm, axis_name="batch"), axis_name="batch")(*split)
    np.testing.assert_allclose(spread.reshape(8), whole, rtol=1e-5)


def test_lrm_where_nothing_is_left_to_pair():
    sure = np.float32([[500.0, 0.0], [400.0, 0.0]])
    value, gradient = jax.value_and_grad(
        lambda z: jnp.sum(losses.lrm(z, sure, np.array([0, 0]), squeezing=0.0))
    )(sure)
    assert value == 0 and np.all(np.isfinite(gradient))


def test_without_pairing_and_squeezing_lrm_is_the_cross_entropy():
    clean, adversarial, labels = case(2.0)
    found = losses.lrm(clean, adversarial, labels, pairing_ratio=None, squeezing=0.0)
    np.testing.assert_array_equal(found, losses.cross_entropy(adversarial, labels))


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
    "loss", [losses.mart, losses.nap, losses.adversarial_logit_pairing, losses.lrm]
)
@pytest.mark.parametrize("size", [1e-30, 50.0, 1e4])
def test_values_and_gradients_stay_finite(loss, size):
    clean, adversarial, labels = case(1.0)
    value, gradients = jax.value_and_grad(lambda z, w: jnp.sum(loss(z, w, labels)), (0, 1))(
        np.float32(size * clean), np.float32(size * adversarial)
    )
    assert np.isfinite(value)
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda *a: losses.mart(*a, classifier="kl"), "classifier must be one of .*'kl'"),
        (lambda *a: losses.mart(*a, beta=-1), "beta must be finite and >= 0, got -1"),
        (lambda *a: losses.nap(*a, beta=-1), "beta must be finite and >= 0, got -1"),
        (lambda *a: losses.lrm(*a, reading="C"), "reading must be one of .*'C'"),
        (lambda *a: losses.lrm(*a, pairing_ratio=0), "pairing_ratio must be None or more than 0"),
        (lambda *a: losses.lrm(*a, pairing_ratio=2, reading="B"), r"None or in \(0, 1\]"),
        (lambda *a: losses.adversarial_logit_pairing(*a, alpha=2), r"alpha must be in \[0, 1\]"),
    ],
)
def test_what_is_not_accepted_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*case(1.0))
