"""DeepFool against closed forms on linear models and a float64 transcription of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.attacks.deepfool import deepfool

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(1)
CLASSES = 5
WEIGHTS = RANDOM.normal(size=(12, CLASSES)).astype(np.float32)
BIASES = RANDOM.normal(size=CLASSES).astype(np.float32)
IMAGES = RANDOM.uniform(size=(16, 2, 2, 3)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(16, -1) @ WEIGHTS + BIASES, axis=1)
FREE = {norm: ThreatModel(norm, np.inf, None) for norm in ("linf", "l2")}


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS + BIASES


def flat(images):
    return np.float64(images).reshape(len(images), -1)


def length(moves, norm):
    return np.abs(moves).max(-1) if norm == "linf" else np.sqrt((moves**2).sum(-1))


def distances(norm):
    """Of the linear model without a box: to every wrong class, infinity for the label."""
    logits = flat(IMAGES) @ np.float64(WEIGHTS) + BIASES
    normals = np.float64(WEIGHTS)[:, None, :] - WEIGHTS[:, LABELS, None]  # [D, N, K]
    sizes = np.abs(normals).sum(0) if norm == "linf" else np.sqrt((normals**2).sum(0))
    own = logits[np.arange(16), LABELS][:, None]
    with np.errstate(invalid="ignore"):
        return np.where(np.arange(CLASSES) == LABELS[:, None], np.inf, (own - logits) / sizes)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("overshoot", [0.02, 0.5])
def test_one_step_takes_a_linear_model_to_its_nearest_boundary(norm, overshoot):
    result = deepfool(KEY, linear, IMAGES, LABELS, FREE[norm], overshoot=overshoot)
    moved = length(flat(result.images) - flat(IMAGES), norm)
    np.testing.assert_allclose(moved, (1 + overshoot) * distances(norm).min(1), rtol=1e-4)
    nearest = distances(norm).argmin(1)
    np.testing.assert_array_equal(result.success, True)
    if overshoot == 0.02:
        np.testing.assert_array_equal(np.argmax(linear(result.images), 1), nearest)
    np.testing.assert_array_equal(result.backward_passes, CLASSES - 1)
    assert result.backward_passes.dtype == jnp.int32 and result.success.dtype == bool


def test_considers_the_classes_of_the_largest_clean_logits():
    ranked = np.argsort(-linear(IMAGES), axis=1)
    for num_classes in (2, 3, 99, None):
        result = deepfool(KEY, linear, IMAGES, LABELS, FREE["l2"], steps=1, num_classes=num_classes)
        considered = ranked[:, 1:num_classes]
        shortest = np.take_along_axis(distances("l2"), considered, axis=1).min(1)
        moved = length(flat(result.images) - flat(IMAGES), "l2")
        np.testing.assert_allclose(moved, 1.02 * shortest, rtol=1e-4)
        np.testing.assert_array_equal(result.backward_passes, considered.shape[1])
    runner_up = distances("l2")[np.arange(16), ranked[:, 1]]
    assert np.any(runner_up > distances("l2").min(1))  # or the choice would make no difference


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_with_a_ball_the_projected_image_is_judged(norm):
    shortest = distances(norm).min(1)
    share = np.resize([0.5, 0.99, 1.01, 2.0], 16)
    epsilon = (share * shortest).astype(np.float32)
    threat = ThreatModel(norm, jnp.asarray(epsilon), None)
    result = deepfool(KEY, linear, IMAGES, LABELS, threat)
    np.testing.assert_array_equal(result.success, share > 1)
    np.testing.assert_array_equal(np.argmax(linear(result.images), 1) != LABELS, share > 1)
    moved = length(flat(result.images) - flat(IMAGES), norm)
    np.testing.assert_allclose(moved, np.minimum(share, 1.02) * shortest, rtol=1e-4)
    assert is_inside(result.images, IMAGES, norm, epsilon, None).all()


def test_the_default_is_the_l2_norm_in_the_unit_box_without_a_ball():
    result = deepfool(KEY, linear, IMAGES, LABELS)
    expected = deepfool(KEY, linear, IMAGES, LABELS, ThreatModel("l2", np.inf, (0.0, 1.0)))
    np.testing.assert_array_equal(result.images, expected.images)
    assert np.asarray(result.success).all() and np.any(result.backward_passes > CLASSES - 1)
    assert is_inside(result.images, IMAGES, "l2", np.inf, (0.0, 1.0)).all()


HIDDEN = np.float32(RANDOM.normal(size=(12, 8)) * 1.5)
OUT = np.float32(RANDOM.normal(size=(8, CLASSES)) * 1.5)


def network(images, hidden=HIDDEN, out=OUT):
    return jnp.tanh((images - 0.5).reshape(len(images), -1) @ hidden) @ out


def transcribed(image, norm, steps, bounds):
    """The iterates of one image in float64, ending with the first misclassified one."""
    points, label = [image], None
    for _ in range(steps + 1):
        hidden = np.tanh((points[-1] - 0.5) @ np.float64(HIDDEN))
        logits = hidden @ np.float64(OUT)
        label = np.argmax(logits) if label is None else label
        if np.argmax(logits) != label or len(points) > steps:
            return points
        best = np.inf
        for wrong in set(range(CLASSES)) - {label}:
            column = np.float64(OUT[:, wrong]) - OUT[:, label]
            gradient = HIDDEN @ ((1 - hidden**2) * column)
            lead = abs(logits[wrong] - logits[label])
            dual = np.abs(gradient).sum() if norm == "linf" else np.sqrt((gradient**2).sum())
            if lead / dual < best:
                best = lead / dual
                unit = np.sign(gradient) if norm == "linf" else gradient / dual
                move = max(best, 1e-5 * (bounds[1] - bounds[0])) * unit
        points.append(np.clip(points[-1] + 1.02 * move, *bounds))
    return points


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3.0, 3.0)])
@pytest.mark.parametrize("steps", [0, 1, 2, 20])
def test_follows_the_algorithm_to_the_first_misclassified_point(norm, bounds, steps):
    labels = np.argmax(network(IMAGES), axis=1)
    threat = ThreatModel(norm, np.inf, bounds)
    result = deepfool(KEY, network, IMAGES, labels, threat, steps=steps)
    paths = [transcribed(image, norm, steps, bounds) for image in flat(IMAGES)]
    np.testing.assert_allclose(flat(result.images), [path[-1] for path in paths], atol=3e-5)
    taken = np.array([len(path) - 1 for path in paths])
    np.testing.assert_array_equal(result.backward_passes, taken * (CLASSES - 1))
    assert steps < 20 or len(np.unique(taken)) > 1
    np.testing.assert_array_equal(result.success, np.argmax(network(result.images), 1) != labels)


def test_leaves_alone_what_is_misclassified_already():
    labels = np.where(np.arange(16) < 4, (LABELS + 1) % CLASSES, LABELS)
    result = deepfool(KEY, linear, IMAGES, labels, ThreatModel("linf", 0.01))
    np.testing.assert_array_equal(result.images[:4], IMAGES[:4])
    assert np.asarray(result.success)[:4].all()
    np.testing.assert_array_equal(result.backward_passes[:4], 0)
    assert np.all(np.asarray(result.backward_passes)[4:] > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_epsilon_of_zero_changes_nothing(norm):
    result = deepfool(KEY, linear, IMAGES, LABELS, ThreatModel(norm, 0.0))
    np.testing.assert_array_equal(result.images, IMAGES)
    assert not np.asarray(result.success).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_moves_on_from_where_two_logits_are_equal(norm):
    # All logits are equal at the black image, whose prediction is the first class.
    black = np.zeros((1, 2, 2, 3), np.float32)
    result = deepfool(KEY, lambda x: linear(x) - BIASES, black, np.array([0]), FREE[norm])
    assert np.asarray(result.success).all()
    assert length(flat(result.images), norm)[0] < 1e-4


def test_without_a_gradient_nothing_moves():
    for infinite in (False, True):

        def logits_fn(images, infinite=infinite):
            total = jnp.sum((images - images).reshape(len(images), -1), axis=1)
            total = jnp.sqrt(total) if infinite else total  # a gradient of 0 / 0
            return jnp.stack([total + 1, total], axis=1)

        result = deepfool(KEY, logits_fn, IMAGES, np.zeros(16, int), steps=2)
        np.testing.assert_array_equal(result.images, IMAGES)
        assert not np.asarray(result.success).any()


def attack_network(norm, rows=slice(None)):
    labels = np.argmax(network(IMAGES), axis=1)
    ball = {"linf": 0.1, "l2": 0.25}[norm]
    return deepfool(KEY, network, IMAGES[rows], labels[rows], ThreatModel(norm, ball))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_jit_and_company_change_nothing(norm):
    expected = attack_network(norm)
    assert 0 < np.asarray(expected.success).sum() < 16
    some = np.array([14, 3, 8, 0, 1])
    for result, rows in (
        (attack_network(norm, some), some),
        (jax.jit(lambda: attack_network(norm))(), slice(None)),
    ):
        np.testing.assert_allclose(result.images, expected.images[rows], atol=1e-6)
        np.testing.assert_array_equal(result.success, expected.success[rows])
        np.testing.assert_array_equal(result.backward_passes, expected.backward_passes[rows])


def test_other_weights_compile_nothing(count_compilations):
    labels = np.argmax(network(IMAGES), axis=1)

    def run(scale, epsilon):
        hidden, out = jnp.asarray(HIDDEN * scale), jnp.asarray(OUT)
        threat = ThreatModel("linf", epsilon)
        return deepfool(KEY, lambda x: network(x, hidden, out), IMAGES, labels, threat, steps=3)

    run(1.0, 0.1)
    with count_compilations() as compiled:
        run(1.1, np.inf)
        assert compiled() == 0


def test_the_forward_pass_is_not_repeated_for_every_class():
    rows = []

    def logits_fn(images):
        rows.append(len(images))
        hidden = jax.lax.dot_general(images.reshape(16, -1), HIDDEN, (((1,), (0,)), ((), ())))
        return jnp.tanh(hidden) @ OUT

    labels = np.zeros(16, int)
    text = str(jax.make_jaxpr(lambda x: deepfool(KEY, logits_fn, x, labels, steps=1))(IMAGES))
    assert set(rows) == {16} and "f32[16,8] = tanh" in text
    assert "[4,16,8] = tanh" not in text and "[16,4,8] = tanh" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "steps=-1: accepted are"),
        ({"overshoot": -0.1}, "overshoot=-0.1: .* at least 0"),
        ({"overshoot": np.inf}, "overshoot=inf: accepted are"),
        ({"num_classes": 1}, "num_classes=1: accepted are"),
        ({"threat": 0.1}, "threat=float: accepted are values of ThreatModel"),
        ({"labels": np.full((16, CLASSES), 0.2, np.float32)}, "labels holds probabilities"),
        (
            {"logits_fn": lambda x: linear(x)[:, :1], "labels": np.zeros(16, int)},
            "2 classes or more",
        ),
    ],
)
def test_says_what_is_wrong(options, message):
    arguments = {"key": KEY, "logits_fn": linear, "images": IMAGES, "labels": LABELS} | options
    with pytest.raises(ValueError, match=message):
        deepfool(**arguments)
