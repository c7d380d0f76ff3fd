"""The margin losses against float64 NumPy, with ties, at extreme scales."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustjax import losses

SCALES = [1e-3, 1.0, 1e4]


def numpy_margin(logits, labels):
    rows = np.arange(len(labels))
    wrong = logits.astype(np.float64)
    wrong[rows, labels] = -np.inf
    return wrong.max(-1) - logits[rows, labels].astype(np.float64)


def numpy_dlr(logits, labels):
    ordered = -np.sort(-logits.astype(np.float64), -1)
    return numpy_margin(logits, labels) / (ordered[:, 0] - ordered[:, 2] + 1e-12)


def numpy_targeted_dlr(logits, labels, targets):
    rows, logits = np.arange(len(labels)), logits.astype(np.float64)
    ordered = -np.sort(-logits, -1)
    spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
    return (logits[rows, targets] - logits[rows, labels]) / (spread + 1e-12)


def draw(scale, num_classes=6, batch=32, seed=0):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((batch, num_classes)) * scale).astype(np.float32)
    labels = rng.integers(0, num_classes, batch)
    targets = (labels + rng.integers(1, num_classes, batch)) % num_classes
    return logits, labels, targets


def numerical_gradient(function, logits):
    """Central differences in float64; the steps are far below the gaps between the logits."""
    logits = logits.astype(np.float64)
    gaps = np.diff(np.sort(logits, -1), axis=-1)
    step = gaps.min() / 8
    columns = []
    for k in range(logits.shape[-1]):
        shift = np.zeros(logits.shape[-1])
        shift[k] = step
        columns.append((function(logits + shift) - function(logits - shift)) / (2 * step))
    return np.stack(columns, -1)


@functools.cache
def value_and_gradient(name):
    loss = getattr(losses, name)
    gradient = jax.grad(lambda *arguments: loss(*arguments).sum())
    return jax.jit(lambda *arguments: (loss(*arguments), gradient(*arguments)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["cw_margin", "dlr", "targeted_dlr"])
def test_values_and_gradients_agree_with_float64(name, scale):
    logits, labels, targets = draw(scale)
    classes = (labels, targets) if name == "targeted_dlr" else (labels,)
    oracle = {"cw_margin": numpy_margin, "dlr": numpy_dlr, "targeted_dlr": numpy_targeted_dlr}
    value, gradient = value_and_gradient(name)(logits, *classes)
    np.testing.assert_allclose(value, oracle[name](logits, *classes), rtol=1e-5)
    expected = numerical_gradient(lambda z: oracle[name](z, *classes), logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("level", [0.0, 1.0, -1e4, 1e4])
@pytest.mark.parametrize("name", ["cw_margin", "dlr", "targeted_dlr"])
def test_equal_logits_give_zero_and_a_finite_gradient(name, level):
    logits = np.full((32, 6), level, np.float32)
    _, labels, targets = draw(1.0)
    classes = (labels, targets) if name == "targeted_dlr" else (labels,)
    value, gradient = value_and_gradient(name)(logits, *classes)
    np.testing.assert_array_equal(value, 0)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[np.arange(32), labels] < 0).all()


@pytest.mark.parametrize("spread", [1e-2, 1.0, 100.0])
@pytest.mark.parametrize("level", [-1e4, 1e4])
@pytest.mark.parametrize("name", ["cw_margin", "dlr", "targeted_dlr"])
def test_a_common_offset_costs_no_precision(name, level, spread):
    logits, labels, targets = draw(spread)
    logits = (logits + np.float32(level)).astype(np.float32)
    classes = (labels, targets) if name == "targeted_dlr" else (labels,)
    oracle = {"cw_margin": numpy_margin, "dlr": numpy_dlr, "targeted_dlr": numpy_targeted_dlr}
    expected = oracle[name](logits, *classes)
    value = getattr(losses, name)(logits, *classes)
    np.testing.assert_array_less(np.abs(value - expected), 1e-5 * (1 + np.abs(expected)))


def test_ties_at_the_top_leave_the_offset_as_the_denominator():
    logits = np.array([[2.0, 2, 2, 2, 1], [2, 2, 2, 2, 1], [2, 2, 1, 0, 0]], np.float32)
    value, gradient = value_and_gradient("dlr")(logits, np.array([4, 0, 2]))
    np.testing.assert_allclose(value, [1e12, 0.0, 1.0], rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_wrong_classes_that_tie_share_the_margin_gradient():
    logits = np.array([[0.0, 3.0, 3.0, 1.0]], np.float32)
    gradient = jax.grad(lambda z: losses.cw_margin(z, np.array([0])).sum())(logits)
    np.testing.assert_array_equal(gradient, [[-1.0, 0.5, 0.5, 0.0]])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shift=st.sampled_from([-8.0, 128.0]),
    factor=st.sampled_from([0.25, 8.0]),
    order=st.permutations(range(6)),
)
def test_invariances(seed, shift, factor, order):
    logits, labels, targets = draw(3.0, batch=4, seed=seed)
    # Multiples of 2⁻¹⁰, so that shifting and scaling round nothing away.
    logits = np.round(logits * 1024) / 1024
    order = np.array(order)
    inverse = np.argsort(order)
    margin = losses.cw_margin(logits, labels)
    np.testing.assert_array_equal(np.asarray(margin) > 0, logits.argmax(-1) != labels)
    np.testing.assert_allclose(losses.cw_margin(logits * factor + shift, labels), margin * factor)
    np.testing.assert_allclose(losses.cw_margin(logits[:, order], inverse[labels]), margin)
    for loss, classes in (
        (losses.dlr, (labels,)),
        (losses.targeted_dlr, (labels, targets)),
    ):
        value = loss(logits, *classes)
        renamed = tuple(inverse[c] for c in classes)
        np.testing.assert_allclose(loss(logits * factor + shift, *classes), value, rtol=1e-5)
        np.testing.assert_allclose(loss(logits[:, order], *renamed), value, rtol=1e-5)


def test_too_few_classes_are_refused():
    logits, labels = np.zeros((2, 3), np.float32), np.array([0, 1])
    assert losses.dlr(logits, labels).shape == (2,)
    with pytest.raises(ValueError, match=r"dlr: logits=float32\[2, 2\]: .* K >= 3 classes"):
        losses.dlr(logits[:, :2], labels)
    with pytest.raises(ValueError, match=r"dlr: logits=float32\[2, 3\]: .* K >= 4 classes"):
        losses.targeted_dlr(logits, labels, labels)


def test_targets_are_checked_by_name():
    logits, labels = np.zeros((2, 4), np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match="targets holds 4: accepted are 0 to 3, of 4 classes"):
        losses.targeted_dlr(logits, labels, np.array([0, 4]))
    with pytest.raises(ValueError, match="targeted_dlr: targets=float.*: accepted are hard labels"):
        losses.targeted_dlr(logits, labels, logits)
