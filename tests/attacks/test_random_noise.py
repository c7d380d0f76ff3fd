"""Random noise: its odds on a model whose boundary is known, and what is kept of several draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.attacks import ThreatModel
from robustjax.attacks.random_noise import random_noise

KEY = jax.random.key(0)
EXAMPLES = 2000
GREY = np.full((EXAMPLES, 1, 1, 1), 0.5, np.float32)
ZEROS = np.zeros(EXAMPLES, int)


def beyond(boundary):
    """Class 1 lies above the boundary."""

    def logits(images):
        score = images.reshape(len(images), -1)[:, 0] - boundary
        return jnp.stack([-score, score], axis=1)

    return logits


@pytest.mark.parametrize("draws", [1, 4])
def test_the_odds_are_those_of_uniform_draws(draws):
    # A quarter of [0.3, 0.7] lies above 0.6.
    threat = ThreatModel("linf", 0.2)
    result = random_noise(KEY, beyond(0.6), GREY, ZEROS, threat, draws=draws)
    odds = 1 - 0.75**draws
    deviation = (odds * (1 - odds) / EXAMPLES) ** 0.5
    assert abs(np.mean(result.success) - odds) < 5 * deviation
    np.testing.assert_array_equal(result.success, np.asarray(result.images)[:, 0, 0, 0] > 0.6)
    np.testing.assert_array_equal(result.backward_passes, 0)


def test_a_draw_is_uniform_in_the_ball():
    first = np.ravel(random_noise(KEY, beyond(2.0), GREY, ZEROS, ThreatModel("linf", 0.2)).images)
    assert first.min() >= 0.3 - 1e-6 and first.max() <= 0.7 + 1e-6
    # Kolmogorov and Smirnov's distance from the uniform distribution; 1.95 is beyond 99.9 %.
    distance = np.abs(np.sort((first - 0.3) / 0.4) - np.arange(EXAMPLES) / EXAMPLES).max()
    assert distance < 1.95 / EXAMPLES**0.5


def test_kept_is_the_worst_of_the_draws():
    threat = ThreatModel("linf", 0.2)
    one, many = (
        np.ravel(random_noise(KEY, beyond(2.0), GREY, ZEROS, threat, draws=draws).images)
        for draws in (1, 6)
    )
    # The first draws are the same, and the loss grows with the pixel.
    assert (many >= one).all() and (many > one).mean() > 0.5
    # The largest of six uniform numbers has the mean 6 / 7.
    assert abs(((many - 0.3) / 0.4).mean() - 6 / 7) < 5 * 0.13 / EXAMPLES**0.5


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_stays_in_the_ball_and_in_the_box_and_alone(norm):
    images = np.random.default_rng(0).uniform(size=(12, 2, 2, 1)).round(1).astype(np.float32)
    epsilon = np.resize([0, 0.1, 0.6], 12).astype(np.float32)
    keys = jax.random.split(KEY, 12)

    def run(rows):
        threat = ThreatModel(norm, epsilon[rows])
        return random_noise(keys[rows], beyond(0.5), images[rows], ZEROS[rows], threat, draws=3)

    whole, part = run(np.arange(12)), run(np.array([5, 2]))
    found = np.asarray(whole.images, np.float64)
    moved = np.abs(found - images).reshape(12, -1)
    size = moved.max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert (size <= epsilon * (1 + 1e-5) + 1e-7).all()
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_array_equal(found[epsilon == 0], images[epsilon == 0])
    np.testing.assert_allclose(part.images, whole.images[np.array([5, 2])], atol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="draws=0: accepted are"):
        random_noise(KEY, beyond(0.5), GREY, ZEROS, ThreatModel(), draws=0)
    with pytest.raises(ValueError, match="needs a finite epsilon"):
        random_noise(KEY, beyond(0.5), GREY, ZEROS, ThreatModel("linf", np.inf))
