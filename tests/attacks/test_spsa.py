"""SPSA: its estimate and its steps against float64 NumPy, closed forms on linear models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.attacks import ThreatModel, pgd
from robustjax.attacks.spsa import estimated_gradient, sign_vectors, spsa

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
# Of two classes, so that the margin is linear: its gradient is plus or minus UPHILL.
UPHILL = (RANDOM.uniform(0.5, 1, 12) * RANDOM.choice([-1, 1], 12)).astype(np.float32)
IMAGES = RANDOM.uniform(0.2, 0.8, (12, 2, 2, 3)).astype(np.float32)
SCORES = IMAGES.reshape(12, 12).astype(np.float64) @ UPHILL
MIDDLE = float(np.median(SCORES))
LABELS = (SCORES < MIDDLE).astype(int)
# Some images are further than this from the boundary, some are nearer.
EPSILON = 0.045


def linear(images):
    score = images.reshape(len(images), -1) @ UPHILL - MIDDLE
    return jnp.stack([score, -score], axis=1)


MIXING = RANDOM.normal(size=(12, 3)).astype(np.float32)


def bent(images):
    return jnp.sin(3 * images.reshape(len(images), -1) @ MIXING)


def margin_of_bent(images, label):
    logits = np.sin(3 * images.reshape(len(images), -1) @ MIXING.astype(np.float64))
    return np.delete(logits, label, axis=1).max(1) - logits[:, label]


def estimate(image, label, vectors, delta):
    """The formula, float64."""
    up, down = (margin_of_bent(image + side * delta * vectors, label) for side in (1, -1))
    return np.tensordot((up - down) / (2 * delta), vectors, axes=1) / len(vectors)


def run(model=linear, images=IMAGES, labels=LABELS, threat=None, key=KEY, **changes):
    threat = ThreatModel("linf", EPSILON) if threat is None else threat
    options = {"steps": 20, "samples": 256, "chunk": 64, **changes}
    return spsa(key, model, images, labels, threat, **options)


def test_sign_vectors_are_independent_signs():
    vectors = np.asarray(sign_vectors(KEY, 0, 4000, (3, 5)))
    assert set(np.unique(vectors)) == {-1.0, 1.0}
    flat = vectors.reshape(4000, 15)
    # Of mean 0 and uncorrelated, up to five standard deviations.
    assert np.abs(flat.mean(0)).max() < 5 / 4000**0.5
    assert np.abs(flat.T @ flat / 4000 - np.eye(15)).max() < 5 / 4000**0.5
    np.testing.assert_array_equal(sign_vectors(KEY, 7, 4, (3, 5)), vectors[7:11])


@pytest.mark.parametrize("chunk", [4, 10, 64])
def test_the_estimate_is_the_formula_whatever_the_chunk(chunk):
    vectors = np.asarray(sign_vectors(KEY, 0, 32, (2, 2, 3)), np.float64)
    found = estimated_gradient(
        bent, KEY, jnp.asarray(IMAGES[0]), 1, directions=32, chunk=chunk, delta=0.01
    )
    expected = estimate(IMAGES[0].astype(np.float64), 1, vectors, 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4)


def test_the_estimate_has_the_gradient_for_expectation():
    directions = 5000
    found = estimated_gradient(
        linear, KEY, jnp.asarray(IMAGES[0]), 1, directions=directions, chunk=500, delta=0.01
    )
    # Class 1 loses 2 UPHILL. The other entries of the gradient are the noise of each.
    gradient = 2 * UPHILL.astype(np.float64)
    deviation = np.sqrt((gradient @ gradient - gradient**2) / directions)
    assert (np.abs(np.ravel(found) - gradient) < 5 * deviation).all()
    assert (np.abs(gradient) > 5 * deviation).all()


def test_a_loss_that_is_not_finite_counts_for_nothing():
    def torn(images):
        return jnp.where(images.reshape(len(images), -1)[:, :1] > IMAGES[0].flat[0], jnp.nan, 1.0)

    found = estimated_gradient(
        lambda x: linear(x) * torn(x), KEY, jnp.asarray(IMAGES[0]), 1,
        directions=8, chunk=8, delta=0.01,
    )  # fmt: skip
    np.testing.assert_array_equal(found, 0)


def test_three_steps_are_adams_on_the_estimates():
    # Nothing is misclassified on the way: the label's logit is raised beyond reach.
    keys = jax.random.split(KEY, 2)
    epsilon, rate, delta = 0.025, 0.01, 0.02
    lead = jnp.array([5.0, 0.0, 0.0])
    result = spsa(
        keys, lambda x: bent(x) + lead, IMAGES[:2], np.zeros(2, int), ThreatModel("linf", epsilon),
        steps=3, samples=16, delta=delta, learning_rate=rate,
    )  # fmt: skip
    for row in range(2):
        clean = IMAGES[row].astype(np.float64)
        image, mean, square = clean.copy(), 0.0, 0.0
        for step in range(3):
            vectors = sign_vectors(jax.random.fold_in(keys[row], step), 0, 8, clean.shape)
            gradient = estimate(image, 0, np.asarray(vectors, np.float64), delta)
            mean = 0.9 * mean + 0.1 * gradient
            square = 0.999 * square + 0.001 * gradient**2
            direction = mean / (1 - 0.9 ** (step + 1))
            scale = np.sqrt(square / (1 - 0.999 ** (step + 1))) + 1e-8
            image = image + rate * direction / scale
            image = np.clip(np.clip(image, clean - epsilon, clean + epsilon), 0, 1)
        np.testing.assert_allclose(result.images[row], image, atol=2e-5)
    assert not result.success.any()


def test_it_breaks_what_can_be_broken_and_stops_there():
    result = run(threat=ThreatModel("linf", EPSILON, None), steps=20, samples=512)
    needed = np.abs(SCORES - MIDDLE) / np.abs(UPHILL).sum()
    # Nobody stands on the edge, where an estimate cannot decide.
    assert np.abs(needed / EPSILON - 1).min() > 0.01
    assert 3 <= (needed < EPSILON).sum() <= 9
    np.testing.assert_array_equal(result.success, needed < EPSILON)
    np.testing.assert_array_equal(result.backward_passes, 0)
    moved = np.abs(np.asarray(result.images) - IMAGES).reshape(12, -1).max(1)
    broken = np.asarray(result.success)
    # The first iterate beyond the boundary, with a step of 0.01.
    assert (moved[broken] < needed[broken] + 0.015).all()


def test_what_withstands_is_returned_at_the_corner():
    result = run(threat=ThreatModel("linf", EPSILON, None), samples=1024)
    standing = ~np.asarray(result.success)
    away = np.where(LABELS == 1, 1, -1)[:, None] * np.sign(UPHILL)
    corner = IMAGES + EPSILON * away.reshape(IMAGES.shape)
    assert standing.any()
    np.testing.assert_allclose(result.images[standing], corner[standing], atol=1e-6)


def test_what_it_returns_lies_in_the_ball_and_in_the_box():
    images = IMAGES.round(1)
    labels = np.where(np.arange(12) < 2, 1 - LABELS, LABELS)
    epsilon = np.resize([0, 0.05, 0.3], 12).astype(np.float32)
    result = run(images=images, labels=labels, threat=ThreatModel("linf", epsilon), steps=7)
    found = np.asarray(result.images, np.float64)
    moved = np.abs(found - images).reshape(12, -1).max(1)
    assert (moved <= epsilon + 1e-7).all()
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(found[epsilon == 0], images[epsilon == 0])
    logits = np.asarray(linear(result.images))
    np.testing.assert_array_equal(result.success, logits.argmax(1) != labels)
    # What is wrong from the outset is left as it is.
    wrong = np.asarray(linear(jnp.asarray(images))).argmax(1) != labels
    assert wrong.any()
    np.testing.assert_array_equal(found[wrong], images[wrong])


def test_it_sees_behind_a_gradient_that_is_masked():
    def stairs(images):
        return linear(jnp.round(images * 100) / 100)

    threat = ThreatModel("linf", 0.08)
    blind = pgd(KEY, stairs, IMAGES, LABELS, threat, steps=20, step_size=0.02, start="clean")
    seeing = run(stairs, threat=threat)
    right = np.asarray(stairs(jnp.asarray(IMAGES))).argmax(1) == LABELS
    assert not np.asarray(blind.success)[right].any()
    assert np.asarray(seeing.success)[right].sum() >= 6


def test_verdicts_depend_neither_on_the_company_nor_on_jit():
    keys = jax.random.split(KEY, 12)
    threat = ThreatModel("linf", EPSILON)
    whole = run(key=keys, steps=5)
    part = run(key=keys[3:7], images=IMAGES[3:7], labels=LABELS[3:7], steps=5)
    np.testing.assert_array_equal(part.images, whole.images[3:7])
    np.testing.assert_array_equal(part.success, whole.success[3:7])
    inside = jax.jit(lambda: run(key=keys, threat=threat, steps=5))()
    np.testing.assert_allclose(inside.images, whole.images, atol=1e-5)
    np.testing.assert_array_equal(inside.success, whole.success)
    assert 0 < whole.success.sum() < 12


def test_a_second_network_compiles_nothing(count_compilations):
    def attack(scale, labels):
        weights = jnp.asarray(MIXING * scale)
        images = IMAGES.reshape(12, 12)
        return run(lambda x: x @ weights, images, labels, steps=2, samples=16, chunk=8)

    attack(1.0, LABELS)
    with count_compilations() as compiled:
        attack(1.5, 1 - LABELS)
        assert compiled() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps=0: accepted are"),
        ({"samples": 0}, "samples=0: accepted are"),
        ({"samples": 7}, "samples=7: accepted are even"),
        ({"chunk": 5}, "chunk=5: accepted are even"),
        ({"delta": 0}, "delta=0: accepted are numbers above 0"),
        ({"delta": -0.1}, "delta=-0.1: accepted are"),
        ({"learning_rate": np.inf}, "learning_rate=inf: accepted are"),
        ({"labels": np.full((12, 2), 0.5)}, "labels holds probabilities"),
        ({"threat": 0.1}, "threat=float"),
        ({"threat": ThreatModel("l2", 1.0)}, "threat.norm=l2: accepted are linf"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        run(**change)
