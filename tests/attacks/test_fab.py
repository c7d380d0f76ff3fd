"""Targeted FAB against closed forms on linear models and a float64 transcription of its steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.attacks.fab import fab_targeted

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
CLASSES = 5
WEIGHTS = RANDOM.normal(size=(12, CLASSES)).astype(np.float32)
BIASES = RANDOM.normal(size=CLASSES).astype(np.float32)
IMAGES = RANDOM.uniform(size=(16, 2, 2, 3)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(16, -1) @ WEIGHTS + BIASES, axis=1)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS + BIASES


def attack(norm="linf", epsilon=np.inf, bounds=(0.0, 1.0), logits_fn=linear, **options):
    options = {"steps": 12, "num_targets": CLASSES - 1} | options
    threat = ThreatModel(norm, epsilon, bounds)
    return fab_targeted(KEY, logits_fn, IMAGES, LABELS, threat, **options)


def flat(images):
    return np.float64(images).reshape(len(images), -1)


def length(moves, norm):
    return np.abs(moves).max(-1) if norm == "linf" else np.sqrt((moves**2).sum(-1))


def bisected_move(image, normal, gap, norm, bounds):
    """The smallest move onto a hyperplane in a box, in float64 by bisection of its multiplier."""
    direction = np.sign(normal) * np.sign(gap)
    room = np.full(image.shape, np.inf)
    if bounds is not None:
        room = np.where(direction > 0, bounds[1] - image, image - bounds[0])
    speed = np.abs(normal) if norm == "l2" else np.sign(np.abs(normal))
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        short = np.sum(np.abs(normal) * np.minimum(middle * speed, room)) < abs(gap)
        low, high = (middle, high) if short else (low, middle)
    return direction * np.where(speed > 0, np.minimum(high * speed, room), 0)


def smallest_distances(norm, bounds):
    """To the nearest class that can be reached, over all of them; infinity where none can be."""
    logits = flat(IMAGES) @ np.float64(WEIGHTS) + BIASES
    distances = np.full((len(IMAGES), CLASSES), np.inf)
    for row, (image, label) in enumerate(zip(flat(IMAGES), LABELS, strict=True)):
        for wrong in set(range(CLASSES)) - {label}:
            normal = np.float64(WEIGHTS[:, wrong]) - WEIGHTS[:, label]
            gap = logits[row, label] - logits[row, wrong]
            move = bisected_move(image, normal, gap, norm, bounds)
            if move @ normal >= gap * (1 - 1e-9):
                distances[row, wrong] = length(move, norm)
    return distances.min(1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.25, 1.5), None])
def test_finds_the_smallest_distance_of_a_linear_model(norm, bounds):
    result = attack(norm, bounds=bounds)
    shortest = smallest_distances(norm, bounds)
    found = length(flat(result.images) - flat(IMAGES), norm)
    assert np.isfinite(shortest).all() and np.asarray(result.success).all()
    # Overshooting by 5 % and returning by 10 %, the iterates settle half a per cent behind.
    assert np.all(found >= shortest * (1 - 1e-5)) and np.all(found <= shortest * 1.01)
    assert np.all(np.argmax(linear(result.images), 1) != LABELS)
    assert is_inside(result.images, IMAGES, norm, np.inf, bounds).all()
    np.testing.assert_array_equal(result.backward_passes, 12 * (CLASSES - 1))
    assert result.backward_passes.dtype == jnp.int32 and result.success.dtype == bool


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_succeeds_exactly_where_epsilon_reaches_the_boundary(norm):
    shortest = smallest_distances(norm, (0.0, 1.0))
    enough = np.arange(16) % 2 == 0
    epsilon = (shortest * np.where(enough, 1.02, 0.99)).astype(np.float32)
    result = attack(norm, jnp.asarray(epsilon))
    np.testing.assert_array_equal(result.success, enough)
    assert is_inside(result.images, IMAGES, norm, epsilon, (0.0, 1.0)).all()
    projected = ThreatModel(norm, jnp.asarray(epsilon)).project(result.images, IMAGES)
    np.testing.assert_array_equal(projected, result.images)
    np.testing.assert_array_equal(np.argmax(linear(result.images), 1) != LABELS, enough)
    np.testing.assert_array_equal(result.images[~enough], IMAGES[~enough])
    passes = np.asarray(result.backward_passes)
    assert np.all(passes[~enough] == 48) and np.all(passes[enough] < 48)


def test_leaves_alone_what_is_misclassified_already():
    labels = np.where(np.arange(16) < 4, (LABELS + 1) % CLASSES, LABELS)
    for epsilon in (0.1, np.inf):
        threat = ThreatModel("linf", epsilon)
        result = fab_targeted(KEY, linear, IMAGES, labels, threat, steps=3, num_targets=4)
        assert np.asarray(result.success)[:4].all()
        np.testing.assert_array_equal(result.images[:4], IMAGES[:4])
        np.testing.assert_array_equal(result.backward_passes[:4], 0)
        assert np.all(np.asarray(result.backward_passes)[4:] > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_epsilon_of_zero_changes_nothing(norm):
    result = attack(norm, 0.0, steps=2, restarts=2)
    np.testing.assert_array_equal(result.images, IMAGES)
    assert not np.asarray(result.success).any()


HIDDEN = np.float32(RANDOM.normal(size=(12, 8)) * 1.5)
OUT = np.float32(RANDOM.normal(size=(8, CLASSES)) * 1.5)


def network(images, hidden=HIDDEN, out=OUT):
    return jnp.tanh((images - 0.5).reshape(len(images), -1) @ hidden) @ out


def logits_and_gradient(image, label, target):
    """Logits, and the gradient of z_target - z_label, in float64."""
    hidden = np.tanh((image - 0.5) @ np.float64(HIDDEN))
    out = np.float64(OUT)
    return hidden @ out, HIDDEN @ ((1 - hidden**2) * (out[:, target] - out[:, label]))


def transcribed(image, label, rank, norm, steps):
    """One target of the attack in float64: the closest misclassified point of each step so far."""
    target = np.argsort(-logits_and_gradient(image, label, 0)[0])[rank + 1]
    point, best, closest = image, np.inf, image
    history = []
    for _ in range(steps):
        logits, gradient = logits_and_gradient(point, label, target)
        lead = logits[target] - logits[label]
        plane = gradient @ point - lead
        moves = [
            bisected_move(start, gradient, plane - gradient @ start, norm, (0.0, 1.0))
            for start in (point, image)
        ]
        first, second = (max(length(move, norm), 1e-8) for move in moves)
        alpha = min(first / (first + second), 0.1)
        point = (1 - alpha) * (point + 1.05 * moves[0]) + alpha * (image + 1.05 * moves[1])
        point = np.clip(point, 0, 1)
        if np.argmax(logits_and_gradient(point, label, target)[0]) != label:
            if length(point - image, norm) < best:
                best, closest = length(point - image, norm), point
            point = image + 0.9 * (point - image)
        history.append(closest)
    return history


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("rank", [0, 2])
def test_follows_the_algorithm_step_by_step(norm, rank):
    labels = np.argmax(network(IMAGES), axis=1)
    steps = (1, 2, 5, 9)
    expected = [
        transcribed(image, label, rank, norm, max(steps))
        for image, label in zip(flat(IMAGES), labels, strict=True)
    ]
    ever = set()
    for taken in steps:
        result = fab_targeted(
            KEY,
            network,
            IMAGES,
            labels,
            ThreatModel(norm, np.inf),
            steps=taken,
            num_targets=1,
            first_target=rank,
        )
        closest = np.array([history[taken - 1] for history in expected])
        np.testing.assert_allclose(flat(result.images), closest, atol=2e-5)
        found = np.any(closest != flat(IMAGES), axis=1)
        np.testing.assert_array_equal(result.success, found)
        ever.add(int(found.sum()))
    assert len(ever) > 1 and max(ever) > 8  # some points are found late


BALL = {"linf": 0.1, "l2": 0.25}


def attack_network(norm, rows=slice(None), key=KEY, **options):
    labels = np.argmax(network(IMAGES), axis=1)
    options = {"steps": 4, "num_targets": 4} | options
    threat = ThreatModel(norm, BALL[norm])
    return fab_targeted(key, network, IMAGES[rows], labels[rows], threat, **options)


def same(one, other):
    np.testing.assert_allclose(one.images, other.images, atol=1e-6)
    np.testing.assert_array_equal(one.success, other.success)
    np.testing.assert_array_equal(one.backward_passes, other.backward_passes)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_example_does_not_depend_on_its_company(norm):
    together = attack_network(norm)
    success = np.asarray(together.success)
    assert 0 < success.sum() < 16
    some = np.array([14, 3, 8, 0, 1])
    alone = attack_network(norm, some)
    same(alone, jax.tree.map(lambda leaf: leaf[some], together))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_jit_and_one_target_at_a_time_change_nothing(norm):
    expected = attack_network(norm)

    @jax.jit
    def jitted(epsilon, first):
        labels = jnp.argmax(network(IMAGES), axis=1)
        threat = ThreatModel(norm, epsilon)
        options = {"steps": 4, "num_targets": 1, "first_target": first}
        return fab_targeted(KEY, network, IMAGES, labels, threat, **options)

    images, success, passes = IMAGES, np.zeros(16, bool), np.zeros(16, int)
    for number in range(4):
        result = jitted(BALL[norm], number)
        same(result, attack_network(norm, num_targets=1, first_target=number))
        same(result, attack_network(norm, num_targets=1, first_target=np.full(16, number)))
        passes += np.where(success, 0, result.backward_passes)
        fresh = ~success & np.asarray(result.success)
        images = np.where(fresh[:, None, None, None], result.images, images)
        success |= fresh
    np.testing.assert_array_equal(success, expected.success)
    np.testing.assert_array_equal(passes, expected.backward_passes)
    np.testing.assert_allclose(images, expected.images, atol=1e-6)


def test_other_targets_epsilons_and_weights_compile_nothing(count_compilations):
    labels = np.argmax(network(IMAGES), axis=1)

    def run(first, epsilon, scale):
        hidden, out = jnp.asarray(HIDDEN * scale), jnp.asarray(OUT)
        threat = ThreatModel("linf", epsilon)
        options = {"steps": 2, "num_targets": 1, "first_target": first}
        return fab_targeted(
            KEY, lambda images: network(images, hidden, out), IMAGES, labels, threat, **options
        )

    # A number from NumPy comes to the device by a tiny program of its own.
    run(np.int64(0), 0.1, 1.0)
    with count_compilations() as compiled:
        run(1, 0.2, 1.0)
        run(np.int64(2), 0.1, 1.1)
        run(jnp.asarray(3), 0.1, 0.9)
        assert compiled() == 0


def flat_around_the_centre(radius):
    """Class 1 wins 0.08 away from the centre, and up to `radius` away there is no gradient."""

    def logits_fn(images):
        distance = jnp.max(jnp.abs(images - 0.5).reshape(len(images), -1), axis=1)
        lead = jnp.where(distance > radius, distance - 0.08, radius - 0.08)
        return jnp.stack([jnp.zeros_like(lead), lead], axis=1)

    return logits_fn


def attack_the_flat(radius, key=KEY, rows=8, **options):
    images, labels = np.full((rows, 2, 2, 3), 0.5, np.float32), np.zeros(rows, int)
    options = {"steps": 2, "num_targets": 1} | options
    model = flat_around_the_centre(radius)
    return fab_targeted(key, model, images, labels, ThreatModel("linf", 0.1), **options)


def test_restarts_begin_at_half_of_epsilon():
    for radius, restarts, found in [(0.049, 1, False), (0.049, 2, True), (0.051, 4, False)]:
        result = attack_the_flat(radius, restarts=restarts)
        np.testing.assert_array_equal(result.success, found)
        assert is_inside(result.images, np.full_like(result.images, 0.5), "linf", 0.1, (0, 1)).all()


def test_without_a_ball_restarts_find_closer_points():
    labels = np.argmax(network(IMAGES), axis=1)
    found = [
        fab_targeted(
            KEY,
            network,
            IMAGES,
            labels,
            ThreatModel("linf", np.inf),
            steps=6,
            num_targets=1,
            restarts=restarts,
        )
        for restarts in (1, 3)
    ]
    one, three = (length(flat(result.images) - flat(IMAGES), "linf") for result in found)
    once, thrice = (np.asarray(result.success) for result in found)
    assert once.sum() > 8 and np.all(thrice[once]) and np.all(three[once] <= one[once])
    assert np.any(three[once] < 0.999 * one[once])


def test_each_example_draws_its_restarts_from_its_own_key():
    keys = jax.random.split(KEY, 8)
    together = attack_the_flat(0.049, keys, restarts=2)
    assert len(np.unique(together.images, axis=0)) == 8
    some = np.array([6, 0, 3])
    alone = attack_the_flat(0.049, keys[some], rows=3, restarts=2)
    same(alone, jax.tree.map(lambda leaf: leaf[some], together))
    same(attack_network("l2"), attack_network("l2", key=jax.random.key(1)))  # one restart: no draw


@pytest.mark.parametrize(("norm", "bounds"), [("linf", None), ("l2", None), ("l2", (0.0, 1.0))])
def test_survives_networks_without_a_useful_gradient(norm, bounds):
    labels = np.zeros(16, int)
    lead = np.float32([1.0, 0.0])
    for logits_fn in (
        lambda images: jnp.broadcast_to(lead, (16, 2)),
        lambda images: lead + 1e-42 * flat_sum(images),
        lambda images: lead + 1e-30 * flat_sum(images),
        lambda images: lead + jnp.sqrt(flat_sum(images - images)),
    ):
        threat = ThreatModel(norm, 0.1, bounds)
        result = fab_targeted(KEY, logits_fn, IMAGES, labels, threat, steps=3, num_targets=1)
        np.testing.assert_array_equal(result.images, IMAGES)
        assert not np.asarray(result.success).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_pixel_whose_gradient_is_nan_stays(norm):
    def logits_fn(images):
        pixel = images[:, 0, 0, 0]
        return linear(images) + jnp.sqrt(pixel - pixel)[:, None] * jnp.arange(CLASSES)

    result = attack(norm, logits_fn=logits_fn)
    np.testing.assert_allclose(result.images[:, 0, 0, 0], IMAGES[:, 0, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(result.success, True)


def flat_sum(images):
    total = jnp.sum(images.reshape(len(images), -1), axis=1)
    return jnp.stack([jnp.zeros_like(total), total], axis=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_targets": 5}, "num_targets=5: accepted are 1 to 4, the wrong ones of the 5 classes"),
        ({"num_targets": 0}, "num_targets=0: accepted are"),
        ({"num_targets": 2, "first_target": 3}, "first_target=3: accepted are 0 to 2"),
        ({"num_targets": 2, "first_target": -1}, "first_target=-1: accepted are"),
        ({"first_target": 0.5}, "first_target=0.5: accepted are a whole number"),
        ({"steps": 0}, "steps=0: accepted are"),
        ({"restarts": 0}, "restarts=0: accepted are"),
        ({"alpha_max": 1.5}, "alpha_max=1.5: accepted are .* at least 0 and at most 1"),
        ({"overshoot": 0.9}, "overshoot=0.9: .* at least 1"),
        ({"overshoot": np.inf}, "overshoot=inf: accepted are"),
        ({"backward": float("nan")}, "backward=nan: accepted are"),
        ({"backward": jnp.ones(())}, "backward=.*: accepted are finite numbers"),
    ],
)
def test_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        attack(**options)


def test_needs_hard_labels():
    soft = np.full((16, CLASSES), 0.2, np.float32)
    with pytest.raises(ValueError, match="labels holds probabilities"):
        fab_targeted(KEY, linear, IMAGES, soft, ThreatModel(), num_targets=1)
