"""Cross-entropy, BCE, KL divergence and label smoothing against float64 NumPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustjax import losses

SCALES = [1e-3, 1.0, 30.0, 1e3, 1e4]
KINDS = ["random", "all equal", "tie at the top", "label far ahead", "label far behind"]


def logits_and_labels(kind, scale, num_classes, seed=0, batch=32):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((batch, num_classes)) * scale).astype(np.float32)
    labels = rng.integers(0, num_classes, batch)
    rows = np.arange(batch)
    if kind == "all equal":
        logits[:] = scale
    elif kind == "tie at the top":
        logits[rows, labels] = logits.max(-1)
        logits[rows, (labels + 1) % num_classes] = logits.max(-1)
    elif kind == "label far ahead":
        logits[rows, labels] = logits.max(-1) + np.float32(20 * min(scale, 1) + scale)
    elif kind == "label far behind":
        logits[rows, labels] = logits.min(-1) - np.float32(20 * min(scale, 1) + scale)
    return logits, labels


def log_sum_exp(values):
    largest = values.max(-1)
    return largest + np.log(np.exp(values - largest[..., None]).sum(-1))


def log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - log_sum_exp(logits)[..., None]


def log_one_minus_softmax(logits):
    logits = logits.astype(np.float64)
    others = np.stack([np.delete(logits, k, -1) for k in range(logits.shape[-1])], -2)
    return log_sum_exp(others) - log_sum_exp(logits)[..., None]


def numpy_bce(logits, labels):
    """Value and gradient; the gradient takes the first of several best wrong classes."""
    rows = np.arange(len(labels))
    log_p, log_rest = log_softmax(logits), log_one_minus_softmax(logits)
    p = np.exp(log_p)
    wrong = np.where(np.arange(logits.shape[-1]) == labels[:, None], -np.inf, logits)
    best = wrong.argmax(-1)
    value = -log_p[rows, labels] - log_rest[rows, best]
    one_hot = np.eye(logits.shape[-1])
    # −log(1 − p_k) has the gradient p_k at k, and p_j − p_j / (1 − p_k) elsewhere.
    log_others = np.where(one_hot[best] > 0, -np.inf, log_p - log_rest[rows, best][:, None])
    return value, p - one_hot[labels] + p - np.exp(log_others)


def assert_close(actual, expected, relative=1e-5):
    actual = np.asarray(actual, np.float64)
    assert np.isfinite(actual).all()
    error = np.abs(actual - expected)
    assert (error <= relative * (1 + np.abs(expected))).all(), error.max()


@functools.cache
def value_and_gradient(loss, argnums=0):
    gradient = jax.grad(lambda *arguments: loss(*arguments).sum(), argnums=argnums)
    return jax.jit(lambda *arguments: (loss(*arguments), gradient(*arguments)))


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_hard_cross_entropy_agrees_with_float64(kind, scale, num_classes):
    logits, labels = logits_and_labels(kind, scale, num_classes)
    log_p = log_softmax(logits)
    value, gradient = value_and_gradient(losses.cross_entropy)(logits, labels)
    assert_close(value, -log_p[np.arange(32), labels])
    assert_close(gradient, np.exp(log_p) - np.eye(num_classes)[labels])


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_soft_cross_entropy_agrees_with_float64(kind, scale):
    logits, _ = logits_and_labels(kind, scale, 10)
    soft = np.random.default_rng(1).dirichlet(np.full(10, 0.3), 32).astype(np.float32)
    soft[0] = np.eye(10)[3]
    log_p, target = log_softmax(logits), soft.astype(np.float64)
    value, gradient = value_and_gradient(losses.cross_entropy)(logits, soft)
    assert_close(value, -(target * log_p).sum(-1))
    assert_close(gradient, target.sum(-1, keepdims=True) * np.exp(log_p) - target)


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_boosted_cross_entropy_agrees_with_float64(kind, scale, num_classes):
    logits, labels = logits_and_labels(kind, scale, num_classes)
    expected_value, expected_gradient = numpy_bce(logits, labels)
    value, gradient = value_and_gradient(losses.boosted_cross_entropy)(logits, labels)
    assert_close(value, expected_value)
    assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", [*KINDS, "nearly equal", "uniform against random"])
def test_kl_divergence_agrees_with_float64(kind, scale, num_classes):
    p_logits, _ = logits_and_labels(kind if kind in KINDS else "random", scale, num_classes)
    q_logits, _ = logits_and_labels("random", scale, num_classes, seed=1)
    if kind == "nearly equal":
        q_logits = p_logits + np.float32(1e-3) * np.sign(q_logits)
    if kind == "uniform against random":
        p_logits[:] = 1.0
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    p, q, log_ratio = np.exp(log_p), np.exp(log_q), log_p - log_q
    expected_value = (p * log_ratio).sum(-1)
    value, (p_gradient, q_gradient) = value_and_gradient(losses.kl_divergence, (0, 1))(
        p_logits, q_logits
    )
    assert_close(value, expected_value)
    assert_close(q_gradient, q - p)
    # A component near zero is what remains of cancelling terms, so the largest sets the scale.
    expected = p * (log_ratio - expected_value[:, None])
    unit = 1 + np.abs(expected).max(-1, keepdims=True)
    assert_close(np.asarray(p_gradient, np.float64) / unit, expected / unit)


def test_kl_divergence_leaves_out_classes_of_probability_zero():
    p_logits = np.array([[1.0, 2.0, -np.inf, 0.0], [1.0, 2.0, -np.inf, 0.0]], np.float32)
    q_logits = np.array([[0.5, 0.0, -np.inf, 1.0], [0.5, 0.0, 1.5, 1.0]], np.float32)
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    p, q = np.exp(log_p), np.exp(log_q)
    log_ratio = np.where(p > 0, log_p, 0) - np.where(p > 0, log_q, 0)
    divergence = (p * log_ratio).sum(-1)
    value, (p_gradient, q_gradient) = value_and_gradient(losses.kl_divergence, (0, 1))(
        p_logits, q_logits
    )
    assert_close(value, divergence)
    assert_close(q_gradient, q - p)
    assert_close(p_gradient, p * (log_ratio - divergence[:, None]))


@pytest.mark.parametrize("gap", [30.0, 60.0])
def test_a_saturated_prediction_keeps_its_relative_precision(gap):
    """1 − p_y is e⁻ᵍᵃᵖ-small: absolute agreement would accept zeros, an attack would not."""
    logits = np.array([[gap, 0.0, -1.0, 1.0]], np.float32)
    other = np.array([[gap, 1.0, 0.0, -2.0]], np.float32)
    label, one_hot = np.array([0]), np.array([[1.0, 0, 0, 0]], np.float32)
    p = np.exp(log_softmax(logits))
    q = np.exp(log_softmax(other))
    expected = p - one_hot
    expected[0, 0] = -p[0, 1:].sum()
    for target in (label, one_hot):
        value, gradient = value_and_gradient(losses.cross_entropy)(logits, target)
        np.testing.assert_allclose(value, -np.log1p(-p[:, 1:].sum(-1)), rtol=1e-5)
        np.testing.assert_allclose(gradient, expected, rtol=2e-5)
    difference = q - p
    difference[0, 0] = -difference[0, 1:].sum()
    _, (_, q_gradient) = value_and_gradient(losses.kl_divergence, (0, 1))(logits, other)
    np.testing.assert_allclose(q_gradient, difference, rtol=2e-5)


def test_kl_divergence_keeps_relative_precision_between_near_equal_predictions():
    p_logits = np.array([[0.0, 0.5, -0.5, 1.0]], np.float32)
    q_logits = p_logits + np.array([[1e-2, -1e-2, 0.0, 0.0]], np.float32)
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    expected = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    assert expected[0] < 1e-4
    np.testing.assert_allclose(losses.kl_divergence(p_logits, q_logits), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(32, 2), (32, 10), (7, 100)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_identical_logits_have_exactly_no_divergence_and_no_gradient(shape, scale):
    logits = (np.random.default_rng(0).standard_normal(shape) * scale).astype(np.float32)
    compiled = value_and_gradient(losses.kl_divergence, (0, 1))
    value, (p_gradient, q_gradient) = compiled(logits, logits.copy())
    assert not np.any(value)
    assert not np.any(p_gradient)
    assert not np.any(q_gradient)


def test_derivatives_of_kl_divergence_exist_forward_and_twice():
    """The closed-form gradient is itself differentiable: the Hessian in q is diag(q) − qqᵀ."""
    rng = np.random.default_rng(0)
    p_logits, q_logits = rng.standard_normal((2, 4)).astype(np.float32)
    p, q = np.exp(log_softmax(p_logits)), np.exp(log_softmax(q_logits))
    tangent = np.array([1.0, -2.0, 0.5, 0.0], np.float32)

    @jax.jit
    def derivatives(q_logits):
        def loss(q_logits):
            return losses.kl_divergence(p_logits, q_logits)

        return jax.jvp(loss, (q_logits,), (tangent,))[1], jax.hessian(loss)(q_logits)

    directional, hessian = derivatives(q_logits)
    np.testing.assert_allclose(directional, (q - p) @ tangent, rtol=1e-5)
    np.testing.assert_allclose(hessian, np.diag(q) - np.outer(q, q), atol=1e-6)


def test_boosted_cross_entropy_of_two_classes_is_twice_the_cross_entropy():
    logits, labels = logits_and_labels("random", 5.0, 2)
    twice = 2 * losses.cross_entropy(logits, labels)
    np.testing.assert_allclose(losses.boosted_cross_entropy(logits, labels), twice, rtol=1e-6)


row = st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3)


@settings(max_examples=30, deadline=None)
@given(p=row, q=row, label=st.integers(0, 2), shift=st.sampled_from([-64.0, 8.0, 1024.0]))
def test_shift_invariance_and_sign(p, q, label, shift):
    # Multiples of 2⁻¹⁰, so that adding the shift rounds nothing away.
    p = np.round(np.array([p]) * 1024).astype(np.float32) / 1024
    q = np.round(np.array([q]) * 1024).astype(np.float32) / 1024
    label = np.array([label])
    for loss, target, shifted_target in (
        (losses.cross_entropy, label, label),
        (losses.boosted_cross_entropy, label, label),
        (losses.kl_divergence, q, q - np.float32(shift)),
    ):
        value = loss(p, target)
        assert value >= -1e-6
        np.testing.assert_allclose(
            loss(p + np.float32(shift), shifted_target), value, rtol=1e-6, atol=1e-6
        )


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_renaming_the_classes_changes_nothing(order, seed):
    rng = np.random.default_rng(seed)
    p, q = rng.standard_normal((2, 3, 5)).astype(np.float32) * 4
    label = rng.integers(0, 5, 3)
    order = np.array(order)
    renamed = np.argsort(order)[label]
    for loss in (losses.cross_entropy, losses.boosted_cross_entropy):
        np.testing.assert_allclose(loss(p[:, order], renamed), loss(p, label), rtol=1e-5)
    np.testing.assert_allclose(
        losses.kl_divergence(p[:, order], q[:, order]), losses.kl_divergence(p, q), rtol=1e-5
    )


def test_smooth_labels_keeps_one_minus_s_and_spreads_the_rest():
    smoothed = losses.smooth_labels(np.array([2, 0]), 5, 0.2)
    expected = np.array([[0.05, 0.05, 0.8, 0.05, 0.05], [0.8, 0.05, 0.05, 0.05, 0.05]])
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    np.testing.assert_array_equal(losses.smooth_labels(np.array([2]), 5, 0), np.eye(5)[[2]])


def test_smooth_labels_takes_a_traced_strength_and_one_per_example():
    smooth = jax.jit(lambda strength: losses.smooth_labels(jnp.array([1, 1]), 3, strength))
    expected = np.array([[0.0, 1.0, 0.0], [0.25, 0.5, 0.25]])
    np.testing.assert_allclose(smooth(jnp.array([0.0, 0.5])), expected, rtol=1e-6)
    np.testing.assert_allclose(smooth(0.5), expected[[1, 1]], rtol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.5, np.nan])
def test_smooth_labels_refuses_a_strength_outside_zero_to_one(strength):
    with pytest.raises(ValueError, match=r"smooth_labels: strength=.*: accepted are 0 to 1"):
        losses.smooth_labels(np.array([0]), 3, strength)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        (np.array([0]), 1, "num_classes=1: accepted are whole numbers, 2 or more"),
        (np.array([0]), 3.0, "num_classes=3.0: accepted are whole numbers"),
        (np.array([0.5]), 3, r"labels=float\d+\[1\]: accepted are hard labels, integers \[B\]"),
        (np.array([0, 3]), 3, "labels holds 3: accepted are 0 to 2, of 3 classes"),
    ],
)
def test_smooth_labels_refuses_what_it_cannot_smooth(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        losses.smooth_labels(labels, num_classes, 0.1)
