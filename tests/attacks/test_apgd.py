"""Auto-PGD: closed forms on linear models, the published checkpoints, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses
from robustjax.attacks import ThreatModel
from robustjax.attacks._momentum_pace import momentum_starts, windows
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.engine.model import sampled_gradient_model

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(12, 5)).astype(np.float32)
IMAGES = RANDOM.uniform(size=(24, 2, 2, 3)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(24, 12) @ WEIGHTS, axis=1)


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def worst_leads(norm, epsilon):
    """The largest z_k - z_y that the ball allows, for every wrong class: [B, K], float64."""
    images, weights = IMAGES.reshape(24, 12).astype(np.float64), WEIGHTS.astype(np.float64)
    logits = images @ weights
    directions = weights[None] - weights.T[LABELS][:, :, None]
    dual = np.abs(directions).sum(1) if norm == "linf" else np.linalg.norm(directions, axis=1)
    leads = logits - logits[np.arange(24), LABELS][:, None] + epsilon * dual
    leads[np.arange(24), LABELS] = -np.inf
    return leads


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_targeted_attack_breaks_exactly_what_a_linear_model_allows(norm):
    epsilon = 0.05 if norm == "linf" else 0.15
    threat = ThreatModel(norm, epsilon, None)
    leads = worst_leads(norm, epsilon).max(axis=1)
    assert 4 < (leads > 0).sum() < 20 and np.abs(leads).min() > 1e-3
    result = attacks.apgd_targeted(KEY, linear, IMAGES, LABELS, threat, num_targets=4)
    np.testing.assert_array_equal(result.success, leads > 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_it_reaches_the_worst_point_of_two_classes_and_a_hopeless_third(norm, loss):
    # Class 2 never leads, so that the loss is monotone in z_1 - z_0 alone.
    weights = RANDOM.normal(size=12).astype(np.float32)

    def model(images):
        score = images.reshape(len(images), -1) @ weights
        return jnp.stack([jnp.zeros_like(score) + 9, score - 9, score * 0 - 99], axis=1)

    labels = np.zeros(24, int)
    threat = ThreatModel(norm, 0.2, None)
    result = attacks.apgd(KEY, model, IMAGES, labels, threat, steps=50, loss=loss)
    dual = np.abs(weights).sum() if norm == "linf" else np.linalg.norm(weights)
    expected = IMAGES.reshape(24, 12).astype(np.float64) @ weights + 0.2 * dual - 9
    np.testing.assert_allclose(model(result.images)[:, 1], expected, rtol=2e-5)
    assert not np.any(result.success)
    np.testing.assert_array_equal(result.backward_passes, 50)


@pytest.mark.parametrize(
    ("steps", "ends"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]), (1, [1])],
)
def test_the_checkpoints_are_the_published_ones(steps, ends):
    at = windows(steps)
    np.testing.assert_array_equal(np.flatnonzero(at), ends)
    np.testing.assert_array_equal(at[ends], np.diff([0, *ends]))


def reference(images, labels, weights, curve, start, epsilon, steps):
    """Auto-PGD as the paper and the authors' code describe it, one example at a time, float64.

    The network is z = curve * sin(3 x) W, the loss cross-entropy, the ball linf, the box [0, 1].
    Returns the best loss and whether any point was misclassified.
    """

    def look(x):
        logits = curve * np.sin(3 * x) @ weights
        shifted = logits - logits.max()
        p = np.exp(shifted) / np.exp(shifted).sum()
        error = p - np.eye(len(p))[labels]
        gradient = curve * 3 * np.cos(3 * x) * (weights @ error)
        return -np.log(p[labels]), gradient, logits.argmax() != labels

    def project(x):
        return np.clip(np.clip(x, images - epsilon, images + epsilon), 0, 1)

    x = start
    loss, gradient, wrong = look(x)
    best, best_loss, best_gradient = x, loss, gradient
    previous, step = x, 2 * epsilon
    history, reduced, loss_then = np.zeros(steps), True, loss
    window, since = max(int(0.22 * steps), 1), 0
    for i in range(steps):
        a = 0.75 if i else 1.0
        z = project(x + step * np.sign(gradient))
        x, previous = project(x + a * (z - x) + (1 - a) * (x - previous)), x
        history[i], gradient, now_wrong = look(x)
        wrong |= now_wrong
        if history[i] > best_loss:
            best, best_loss, best_gradient = x, history[i], gradient
        since += 1
        if since == window:
            increases = sum(history[i - c] > history[i - c - 1] for c in range(window))
            halve = increases <= 0.75 * window or (not reduced and loss_then >= best_loss)
            reduced, loss_then = halve, best_loss
            if halve:
                step, x, gradient = step / 2, best, best_gradient
            since, window = 0, max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return best_loss, wrong


def test_it_follows_a_transcription_of_the_algorithm():
    weights = WEIGHTS.astype(np.float64)
    inner = IMAGES.reshape(24, 12)
    labels = np.argmax(np.sin(3 * inner) @ weights, axis=1)
    for epsilon, curve in ((0.02, 1.0), (0.1, 0.2)):

        def model(images, curve=curve):
            return curve * jnp.sin(3 * images.reshape(len(images), -1)) @ WEIGHTS

        threat = ThreatModel("linf", epsilon)
        keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(24))
        drawn = momentum_starts(fold_in_each(keys, 0), jnp.asarray(IMAGES), threat)
        expected = [
            reference(x, y, weights, curve, np.asarray(start, np.float64).ravel(), epsilon, 40)
            for x, y, start in zip(inner.astype(np.float64), labels, drawn, strict=True)
        ]
        found = attacks.apgd(KEY, model, IMAGES, labels, threat, steps=40)
        np.testing.assert_array_equal(found.success, [wrong for _, wrong in expected])
        standing = ~np.asarray(found.success)
        assert 3 < standing.sum() < 24
        reached = losses.cross_entropy(model(found.images), labels)
        best = np.array([loss for loss, _ in expected])
        np.testing.assert_allclose(reached[standing], best[standing], rtol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targeted", [False, True])
def test_what_it_returns_is_legal_and_the_verdict_is_of_the_returned_image(norm, targeted):
    epsilon = 0.03 if norm == "linf" else 0.1
    threat = ThreatModel(norm, epsilon)
    attack = attacks.apgd_targeted if targeted else attacks.apgd
    options = {"num_targets": 2} if targeted else {"restarts": 2}
    labels = np.where(np.arange(24) < 3, (LABELS + 1) % 5, LABELS)
    result = attack(KEY, linear, IMAGES, labels, threat, steps=12, **options)
    moved = np.asarray(result.images, np.float64) - IMAGES
    flat = moved.reshape(24, -1)
    size = np.abs(flat).max(1) if norm == "linf" else np.linalg.norm(flat, axis=1)
    assert size.max() <= epsilon * (1 + 1e-5)
    assert result.images.min() >= 0 and result.images.max() <= 1
    np.testing.assert_array_equal(
        result.success, np.argmax(linear(np.asarray(result.images)), 1) != labels
    )
    # What is wrong as it is, is not attacked.
    np.testing.assert_array_equal(result.images[:3], IMAGES[:3])
    np.testing.assert_array_equal(result.backward_passes[:3], 0)
    assert result.success[:3].all() and 3 < result.success.sum() < 24


def test_without_a_radius_nothing_moves():
    for attack in (attacks.apgd, attacks.apgd_targeted):
        options = {"num_targets": 1} if attack is attacks.apgd_targeted else {}
        result = attack(KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.0), steps=5, **options)
        np.testing.assert_array_equal(result.images, IMAGES)
        assert not np.any(result.success)


def test_a_verdict_does_not_depend_on_the_company_nor_on_jit():
    threat = ThreatModel("linf", 0.04)
    keys = jax.random.split(KEY, 24)
    whole = attacks.apgd(keys, linear, IMAGES, LABELS, threat, steps=20)
    part = attacks.apgd(keys[5:9], linear, IMAGES[5:9], LABELS[5:9], threat, steps=20)
    np.testing.assert_allclose(part.images, whole.images[5:9], atol=1e-6)
    jitted = jax.jit(lambda k, x, y: attacks.apgd(k, linear, x, y, threat, steps=20))
    inside = jitted(keys, IMAGES, LABELS)
    np.testing.assert_array_equal(inside.success, whole.success)
    np.testing.assert_array_equal(inside.backward_passes, whole.backward_passes)


def test_targets_one_at_a_time_are_the_targets_together():
    threat = ThreatModel("linf", 0.03)
    together = attacks.apgd_targeted(KEY, linear, IMAGES, LABELS, threat, steps=10, num_targets=3)
    broken = np.zeros(24, bool)
    images = IMAGES.copy()
    for target in range(3):
        one = attacks.apgd_targeted(
            KEY, linear, IMAGES, LABELS, threat, steps=10, num_targets=1, first_target=target
        )
        new = np.asarray(one.success) & ~broken
        images[new] = np.asarray(one.images)[new]
        broken |= new
    np.testing.assert_array_equal(together.success, broken)
    np.testing.assert_array_equal(together.images[broken], images[broken])


def test_each_example_may_have_a_target_of_its_own():
    threat = ThreatModel("linf", 0.03)

    def towards(first):
        return attacks.apgd_targeted(
            KEY, linear, IMAGES, LABELS, threat, steps=10, num_targets=1, first_target=first
        )

    own = np.arange(24) % 3
    found, alone = towards(own), [towards(target) for target in range(3)]
    assert 0 < np.mean(found.success) < 1
    for field in ("images", "success", "backward_passes"):
        expected = [getattr(alone[target], field)[row] for row, target in enumerate(own)]
        np.testing.assert_array_equal(getattr(found, field), np.stack(expected))
    with pytest.raises(ValueError, match="first_target=.*: accepted are a whole number, or"):
        towards(own[:5])
    with pytest.raises(ValueError, match="accepted are 0 to 3"):
        towards(own + 2)


def test_other_weights_and_targets_compile_nothing(count_compilations):
    def run(scale, target):
        captured = jnp.asarray(WEIGHTS * scale)
        return attacks.apgd_targeted(
            KEY,
            lambda x: x.reshape(len(x), -1) @ captured,
            IMAGES,
            LABELS,
            ThreatModel("linf", 0.03),
            steps=4,
            num_targets=1,
            first_target=target,
        ).success

    run(1.0, 0)
    with count_compilations() as compiled:
        run(1.1, 1)
        assert compiled() == 0


def test_samples_average_the_gradient_of_a_random_network():
    def noise(key):
        return jax.random.normal(key, (12, 5))

    def model(images, key):
        return images.reshape(len(images), -1) @ (WEIGHTS + noise(key))

    look = sampled_gradient_model(losses.cross_entropy, model, jnp.asarray(LABELS), samples=3)
    logits, loss, gradient = look(jnp.asarray(IMAGES), jnp.asarray(LABELS), KEY)
    expected, mean_loss = np.zeros((24, 12)), 0
    for sample in range(3):
        weights = np.asarray(WEIGHTS + noise(jax.random.fold_in(KEY, sample)), np.float64)
        drawn = IMAGES.reshape(24, 12) @ weights
        p = np.exp(drawn) / np.exp(drawn).sum(1, keepdims=True)
        expected += (p - np.eye(5)[LABELS]) @ weights.T / 3
        mean_loss += -np.log(p[np.arange(24), LABELS]) / 3
    np.testing.assert_allclose(gradient.reshape(24, 12), expected, atol=1e-5)
    np.testing.assert_allclose(logits, drawn, atol=1e-4)  # of the last draw
    np.testing.assert_allclose(loss, mean_loss, rtol=1e-4, atol=1e-5)
    found = attacks.apgd(KEY, model, IMAGES, LABELS, ThreatModel("linf", 0.1), steps=5, samples=2)
    assert found.success.sum() > 12  # most draws break most examples


def test_no_single_draw_of_a_random_network_ends_the_attack_or_decides():
    def model(images, key):  # wrong in three quarters of its draws, whatever the image is
        wrong = jax.random.bernoulli(key, 0.75, (len(images), 1))
        logits = images.reshape(len(images), -1) @ WEIGHTS
        return jnp.where(wrong, -logits, logits)

    threat = ThreatModel("linf", 0.0)
    found = [
        attacks.apgd(jax.random.key(seed), model, IMAGES, LABELS, threat, steps=4, samples=2)
        for seed in range(8)
    ]
    success = np.array([result.success for result in found])
    # Of 4 steps with 2 draws each, one is wrong nearly always; a fresh draw is in 0.75 of cases.
    assert 0.65 < success.mean() < 0.85
    assert all(np.all(result.backward_passes == 4) for result in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "cw"}, "loss=cw: accepted are ce, dlr"),
        ({"steps": 0}, "steps=0: accepted are"),
        ({"restarts": 0}, "restarts=0: accepted are"),
        ({"threat": ThreatModel("linf", np.inf)}, "threat.epsilon=inf: accepted are finite"),
        ({"labels": np.full((24, 5), 0.2, np.float32)}, "labels holds probabilities"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"labels": LABELS, "threat": ThreatModel(), **change}
    labels, threat = arguments.pop("labels"), arguments.pop("threat")
    with pytest.raises(ValueError, match=message):
        attacks.apgd(KEY, linear, IMAGES, labels, threat, **arguments)


def test_more_targets_than_wrong_classes_are_refused():
    with pytest.raises(ValueError, match="num_targets=9: accepted are 1 to 4, the wrong ones"):
        attacks.apgd_targeted(KEY, linear, IMAGES, LABELS, ThreatModel())
    with pytest.raises(ValueError, match="K >= 4 classes"):
        attacks.apgd_targeted(
            KEY, lambda x: linear(x)[:, :3], IMAGES, LABELS % 3, ThreatModel(), num_targets=1
        )


def _right_but_for_nan(images, key=None):
    """Class 0 with all its neighbours, and no number where the images are bright."""
    logits = jnp.stack([1.0 + 0 * images.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3))], 1)
    return jnp.where((images.mean(axis=(1, 2, 3)) > 0.52)[:, None], jnp.nan, logits)


def test_means_over_draws_that_are_no_number_are_the_strongest():
    images, labels = jnp.full((3, 2, 2, 1), 0.5), jnp.zeros(3, int)
    threat = attacks.ThreatModel("linf", 0.1)
    found = attacks.apgd(
        jax.random.key(0), _right_but_for_nan, images, labels, threat, steps=20, samples=2
    )
    assert found.success.all()
    assert np.isnan(_right_but_for_nan(found.images)).all()
