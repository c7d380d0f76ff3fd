"""LRM in both readings and directions against float64 NumPy, at every scale and at the edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, losses

BATCH = 8


def draw(scale, num_classes=5):
    rng = np.random.default_rng(num_classes)
    logits = (rng.standard_normal((2, BATCH, num_classes)) * scale).astype(np.float32)
    return *logits, rng.integers(0, num_classes, BATCH)


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def cross_entropy(logits, targets):
    return -(targets * log_softmax(logits)).sum(-1)


def pairing_and_gradients(reference, other):
    """−Σ_k p_k log q_k with its gradients p_k (−log q_k − value) and q − p."""
    p, log_q = np.exp(log_softmax(reference)), log_softmax(other)
    value = -(p * log_q).sum(-1)
    return value, p * (-log_q - value[:, None]), np.exp(log_q) - p


@functools.cache
def value_and_gradients(direction, fixed):
    loss = functools.partial(
        losses.lrm,
        pairing_ratio=0.25,
        squeezing=0.0,
        direction=direction,
        detached_reference=fixed,
    )
    gradients = jax.grad(lambda *arguments: loss(*arguments).sum(), (0, 1))
    return jax.jit(lambda *arguments: (loss(*arguments), gradients(*arguments)))


@pytest.mark.parametrize(
    ("direction", "fixed"), [("clean", True), ("clean", False), ("adversarial", False)]
)
@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0, 1e3])
def test_value_and_gradients_agree_with_float64(direction, fixed, num_classes, scale):
    clean, adversarial, labels = draw(scale, num_classes)
    targets = np.eye(num_classes)[labels]
    loss = cross_entropy(adversarial, targets)
    if direction == "clean":
        pairing, by_clean, by_adversarial = pairing_and_gradients(clean, adversarial)
    else:
        pairing, by_adversarial, by_clean = pairing_and_gradients(adversarial, clean)
    if fixed:
        by_clean = np.zeros_like(by_clean)
    factor = loss.mean() / pairing.mean() / 0.25
    by_adversarial = factor * by_adversarial + np.exp(log_softmax(adversarial)) - targets

    value, gradients = value_and_gradients(direction, fixed)(clean, adversarial, labels)
    np.testing.assert_allclose(value, loss + factor * pairing, rtol=2e-5, atol=1e-5)
    for found, expected in zip(gradients, (factor * by_clean, by_adversarial), strict=True):
        assert np.abs(found - expected).max() <= 3e-5 * np.abs(expected).max()


def numeric_gradient(function, point, step=1e-6):
    found = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        moved = [point.copy(), point.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        found[place] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found


def exact_gradients(clean, adversarial, labels, **options):
    with jax.enable_x64(True):
        return jax.grad(lambda *z: losses.lrm(*z, labels, **options).sum(), (0, 1))(
            jnp.asarray(clean), jnp.asarray(adversarial)
        )


@pytest.mark.parametrize("reading", ["A", "B"])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_ratio_is_a_constant_to_the_gradient(reading, alpha):
    clean, adversarial, labels = draw(1.5)
    clean, adversarial, targets = np.float64(clean), np.float64(adversarial), np.eye(5)[labels]

    def parts(clean, adversarial):
        loss = alpha * cross_entropy(clean, targets)
        loss += (1 - alpha) * cross_entropy(adversarial, targets)
        squares = (clean**2 + adversarial**2).sum(-1)
        return loss, cross_entropy(adversarial, np.exp(log_softmax(clean))), squares

    loss, pairing, _ = parts(clean, adversarial)
    ratio = loss.mean() / pairing.mean()

    def total(clean, adversarial):
        loss, pairing, squares = parts(clean, adversarial)
        paired = {"A": loss + ratio * pairing / 0.3, "B": 0.3 * loss + 0.7 * ratio * pairing}
        return (paired[reading] + 0.02 * squares).sum()

    options = {
        "pairing_ratio": 0.3,
        "squeezing": 0.02,
        "reading": reading,
        "alpha": alpha,
        "detached_reference": False,
    }
    found = losses.lrm(clean, adversarial, labels, **options)
    np.testing.assert_allclose(found.sum(), total(clean, adversarial), rtol=1e-5)
    by_clean, by_adversarial = exact_gradients(clean, adversarial, labels, **options)
    expected = numeric_gradient(lambda z: total(z, adversarial), clean)
    np.testing.assert_allclose(by_clean, expected, rtol=1e-6, atol=1e-8)
    expected = numeric_gradient(lambda z: total(clean, z), adversarial)
    np.testing.assert_allclose(by_adversarial, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("ratio", [0.125, 0.95])
def test_what_the_readings_make_of_the_ratio(ratio):
    """A: the loss is to the pairing as r to 1. B: the whole keeps the value of the loss."""
    clean, adversarial, labels = draw(2.0)
    loss = cross_entropy(adversarial, np.eye(5)[labels]).mean()
    for reading, whole in (("A", loss + loss / ratio), ("B", loss)):
        found = losses.lrm(
            clean, adversarial, labels, pairing_ratio=ratio, squeezing=0.0, reading=reading
        )
        np.testing.assert_allclose(found.mean(), whole, rtol=1e-5)


@pytest.mark.parametrize("direction", ["clean", "adversarial"])
def test_the_reference_is_held_fixed_unless_told_otherwise(direction):
    clean, adversarial, labels = draw(1.5)
    clean, adversarial = np.float64(clean), np.float64(adversarial)
    options = {"pairing_ratio": 0.3, "squeezing": 0.0, "direction": direction}
    value = losses.lrm(clean, adversarial, labels, **options)
    differentiated = losses.lrm(clean, adversarial, labels, detached_reference=False, **options)
    np.testing.assert_array_equal(value, differentiated)
    by_clean, by_adversarial = exact_gradients(clean, adversarial, labels, **options)
    p, q, targets = np.exp(log_softmax(clean)), np.exp(log_softmax(adversarial)), np.eye(5)[labels]
    loss = cross_entropy(adversarial, targets).mean()
    if direction == "clean":
        scale = loss / cross_entropy(adversarial, p).mean() / 0.3
        np.testing.assert_array_equal(by_clean, 0)
        expected = q - targets + scale * (q - p)
        np.testing.assert_allclose(by_adversarial, expected, rtol=1e-6, atol=1e-9)
    else:
        scale = loss / cross_entropy(clean, q).mean() / 0.3
        np.testing.assert_allclose(by_clean, scale * (p - q), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(by_adversarial, q - targets, rtol=1e-6, atol=1e-9)


def test_without_pairing_it_is_the_cross_entropy_and_the_squares():
    clean, adversarial, labels = draw(2.0)
    found = losses.lrm(clean, adversarial, labels, pairing_ratio=None, squeezing=0.25)
    squares = (np.float64(clean) ** 2 + np.float64(adversarial) ** 2).sum(-1)
    expected = cross_entropy(adversarial, np.eye(5)[labels]) + 0.25 * squares
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_predictions_without_preference_have_no_gradient_but_the_cross_entropy():
    logits, labels = np.full((BATCH, 10), 0.7, np.float32), np.arange(BATCH)
    _, (by_clean, by_adversarial) = value_and_gradients("clean", fixed=False)(
        logits, logits, labels
    )
    np.testing.assert_array_equal(by_clean, 0)
    np.testing.assert_allclose(by_adversarial, 0.1 - np.eye(10)[labels], rtol=1e-6)


@pytest.mark.parametrize("gap", [20, 60])
def test_a_small_pairing_term_is_scaled_up_exactly(gap):
    """Both wrong, sure and nearly agreed: h is e⁻ᵍᵃᵖ-small and its share of the loss is not."""
    clean = np.array([[gap, 0.0], [gap + 0.5, 0.0]], np.float32)
    labels = np.array([1, 1])
    loss = cross_entropy(clean, np.eye(2)[labels])
    tail = np.exp(-np.float64(clean[:, 0]))
    # With t the probability of class 1, h = −(1 − t) log(1 − t) − t log t is t (1 + gap) up to t².
    pairing = tail * (1 + clean[:, 0])
    factor = loss.mean() / pairing.mean() / 0.25
    value, (by_clean, _) = value_and_gradients("clean", fixed=False)(clean, clean, labels)
    np.testing.assert_allclose(value, loss + factor * pairing, rtol=1e-5)
    steepness = factor * tail * clean[:, 0]
    np.testing.assert_allclose(by_clean, np.stack([-steepness, steepness], -1), rtol=1e-4)


@pytest.mark.parametrize("gap", [*range(80, 110), 1e3, 1e6])
def test_value_and_gradient_are_finite_where_the_ratio_would_overflow(gap):
    clean = np.array([[gap, 0.0], [gap + 0.5, 0.0]], np.float32)
    labels = np.array([1, 1])
    value, gradients = value_and_gradients("clean", fixed=False)(clean, clean, labels)
    assert np.isfinite(value).all()
    for gradient in gradients:
        assert np.isfinite(gradient).all()
        # Nothing left to pair: what remains is the cross-entropy's gradient of one per row.
        assert np.abs(gradient).max() < 1.1


def test_where_all_are_right_and_sure_nothing_is_left():
    sure = np.float32([[500.0, 0.0], [400.0, 0.0]])
    value, gradients = value_and_gradients("clean", fixed=False)(sure, sure, np.array([0, 0]))
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(gradients, 0)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_soft_labels_and_coefficients_per_example(scale):
    clean, adversarial, _ = draw(scale)
    soft = np.random.default_rng(1).dirichlet(np.ones(5), BATCH).astype(np.float32)
    alpha, squeezing = np.linspace(0, 1, BATCH), np.linspace(0, 1e-3, BATCH)
    found = losses.lrm(
        clean, adversarial, soft, pairing_ratio=0.5, reading="B", alpha=alpha, squeezing=squeezing
    )
    loss = alpha * cross_entropy(clean, soft) + (1 - alpha) * cross_entropy(adversarial, soft)
    pairing, _, _ = pairing_and_gradients(clean, adversarial)
    squares = (np.float64(clean) ** 2 + np.float64(adversarial) ** 2).sum(-1)
    expected = 0.5 * loss + 0.5 * loss.mean() / pairing.mean() * pairing + squeezing * squares
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_devices_together_have_the_gradient_of_the_whole_batch():
    clean, adversarial, labels = draw(2.0)

    def gradients(clean, adversarial, labels, axis_name=None):
        loss = functools.partial(losses.lrm, labels=labels, axis_name=axis_name)
        return jax.grad(lambda *logits: loss(*logits).sum(), (0, 1))(clean, adversarial)

    split = [part.reshape(4, 2, *part.shape[1:]) for part in (clean, adversarial, labels)]
    spread = jax.vmap(functools.partial(gradients, axis_name="batch"), axis_name="batch")(*split)
    for found, expected in zip(spread, gradients(clean, adversarial, labels), strict=True):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    alone = losses.lrm(*(part[0] for part in split))
    assert not np.allclose(alone, losses.lrm(clean, adversarial, labels)[:2], rtol=1e-3)


@pytest.mark.parametrize("reading", ["A", "B"])
def test_the_pairing_ratio_may_be_traced(reading):
    arguments = draw(1.0)
    traced = jax.jit(lambda ratio: losses.lrm(*arguments, pairing_ratio=ratio, reading=reading))
    for ratio in (0.125, 0.95):
        expected = losses.lrm(*arguments, pairing_ratio=ratio, reading=reading)
        np.testing.assert_allclose(traced(ratio), expected, rtol=1e-6)


def test_the_default_pairs_by_the_clean_prediction():
    arguments = draw(1.0)
    default = losses.lrm(*arguments)
    np.testing.assert_array_equal(losses.lrm(*arguments, direction="clean"), default)
    assert not np.allclose(losses.lrm(*arguments, direction="adversarial"), default)


def train_on_digits(**options):
    """Learns 512 digits and a disturbed copy of each by this loss; the share that is right then."""
    digits = data.load("digits", "train")
    clean = digits.images[:512].reshape(512, -1) / np.float32(255)
    disturbed = clean + np.random.default_rng(0).uniform(-0.1, 0.1, clean.shape)
    disturbed, labels = np.float32(np.clip(disturbed, 0, 1)), digits.labels[:512]

    def logits(weights, images):
        return jax.nn.relu(images @ weights[0] + weights[1]) @ weights[2] + weights[3]

    def loss(weights):
        pair = logits(weights, clean), logits(weights, disturbed)
        return losses.lrm(*pair, labels, **options).mean()

    def step(state, _):
        weights, moment = state
        moment = jax.tree.map(lambda old, new: 0.9 * old + new, moment, jax.grad(loss)(weights))
        return (jax.tree.map(lambda old, new: old - 0.1 * new, weights, moment), moment), None

    drawn = np.random.default_rng(1).standard_normal((64, 74)).astype(np.float32) * 0.15
    weights = [drawn[:, :64], np.zeros(64, np.float32), drawn[:, 64:], np.zeros(10, np.float32)]
    start = weights, jax.tree.map(np.zeros_like, weights)
    (weights, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=300))(start)
    return np.mean(np.argmax(logits(weights, disturbed), -1) == labels)


@pytest.mark.parametrize("reading", ["A", "B"])
def test_both_readings_train_with_the_reference_held_fixed(reading):
    assert train_on_digits(reading=reading) > 0.9
    # Otherwise h is lowered by being sure of any one class, and nothing else is learnt.
    assert not train_on_digits(reading=reading, detached_reference=False) > 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "both"}, "lrm: direction=both: accepted are "),
        ({"reading": "C"}, "lrm: reading=C: accepted are "),
        ({"pairing_ratio": 0}, "pairing_ratio=0: accepted are None and, .* more than 0"),
        (
            {"pairing_ratio": 2, "reading": "B"},
            "pairing_ratio=2: accepted are None and, in reading B, numbers more than 0 to 1",
        ),
        ({"alpha": 2}, "lrm: alpha=2: accepted are 0 to 1"),
        (
            {"pairing_ratio": np.ones(BATCH)},
            r"pairing_ratio=float\d+\[8\]: accepted are None",
        ),
        ({"pairing_ratio": jnp.float32(-1)}, "pairing_ratio=-1.*: accepted are None and"),
        ({"pairing_ratio": float("nan")}, "pairing_ratio=nan: accepted are None and"),
        ({"squeezing": -1}, "lrm: squeezing=-1: accepted are finite numbers, 0 or more"),
    ],
)
def test_what_is_not_accepted_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        losses.lrm(*draw(1.0), **options)
