"""The l1 ball in a box: its projection against bisection in float64, its steps, its points."""

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import optimize

from robustjax.attacks import ThreatModel
from robustjax.attacks._l1_geometry import nearest_offset, sparse_signs, uniform_in_ball
from robustjax.attacks.engine.keys import per_example_keys

BOXES = [(0.0, 1.0), (-2.0, 0.5), None]
project = jax.jit(lambda threat, images, clean: threat.project(images, clean))


def nearest(point, clean, epsilon, bounds):
    """The nearest point in float64, by its Lagrangian: for a multiplier each pixel by itself."""
    point, clean = np.float64(point), np.float64(clean)
    low, high = bounds or (-np.inf, np.inf)

    def at(multiplier):
        shrunk = np.sign(point - clean) * np.maximum(np.abs(point - clean) - multiplier, 0)
        return np.clip(clean + shrunk, low, high)

    if np.abs(at(0) - clean).sum() <= epsilon:
        return at(0)
    most = np.abs(point - clean).max()
    excess = lambda multiplier: np.abs(at(multiplier) - clean).sum() - epsilon  # noqa: E731
    return at(optimize.brentq(excess, 0, most, xtol=1e-15) if epsilon else most)


@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("pixels", [7, 3072])
def test_the_projection_is_the_nearest_point_of_ball_and_box(bounds, pixels):
    random = np.random.default_rng(pixels)
    low, high = bounds or (0.0, 1.0)
    clean = random.uniform(low, high, (32, pixels)).astype(np.float32)
    at_bounds = random.choice([low, high], clean.shape).astype(np.float32)
    clean = np.where(random.uniform(size=clean.shape) < 0.3, at_bounds, clean)
    images = clean + random.normal(size=clean.shape).astype(np.float32)
    radii = np.abs(images - clean).sum(1) * 10.0 ** random.uniform(-4, 0.5, 32)
    threat = ThreatModel("l1", jnp.float32(radii), bounds)
    found = np.float64(project(threat, images, clean))
    exact = [nearest(*row, bounds) for row in zip(images, clean, np.float32(radii), strict=True)]
    np.testing.assert_allclose(found, exact, atol=2e-6)
    length = np.abs(found - clean).sum(1)
    assert np.all(length <= np.float32(radii) * (1 + 1e-5) + pixels * 2.0**-24)


@hypothesis.given(
    hnp.arrays(np.float32, (2, 5), elements=st.sampled_from([-3.0, 0.0, 0.3, 0.5, 1.0, 1.25, 40])),
    hnp.arrays(np.float32, (2, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.75, 9.0]),
)
@hypothesis.settings(deadline=None, max_examples=150)
def test_the_projection_of_ties_and_of_pixels_at_their_bounds(images, clean, epsilon):
    threat = ThreatModel("l1", jnp.float32(epsilon))
    found = project(threat, images, clean)
    exact = [nearest(*row, epsilon, (0, 1)) for row in zip(images, clean, strict=True)]
    np.testing.assert_allclose(found, exact, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20, 1e38])
def test_a_lonely_pixel_keeps_the_whole_radius_at_any_magnitude(scale):
    images = np.float32(scale) * np.array([[0.0, -1.0, 1e-3]], np.float32)
    threat = ThreatModel("l1", np.float32(scale * 0.25), None)
    found = threat.project(jnp.asarray(images), jnp.zeros((1, 3)))
    np.testing.assert_allclose(np.float64(found) / scale, [[0, -0.25, 0]], rtol=1e-6)


def test_the_projection_has_the_derivative_of_a_projection():
    # Three pixels are free and share what is left; one is at its bound, one stays.
    clean = jnp.array([[0.5, 0.5, 0.5, 0.9, 0.5]])
    images = jnp.array([[0.8, 0.9, 0.1, 1.5, 0.51]])
    threat = ThreatModel("l1", 0.5)
    jacobian = jax.jacobian(lambda x: threat.project(x, clean)[0])(images)[:, 0]
    # By the signs of the offsets: the identity less the mean over the free ones.
    signs = np.array([1, 1, -1])
    expected = np.zeros((5, 5))
    expected[:3, :3] = np.eye(3) - np.outer(signs, signs) / 3
    np.testing.assert_allclose(jacobian, expected, atol=1e-6)
    inside = jax.jacobian(lambda x: threat.project(x, clean)[0])(clean + 0.01)[:, 0]
    np.testing.assert_allclose(inside, np.eye(5), atol=1e-6)


def test_a_step_moves_the_pixels_of_the_largest_gradients_equally_far():
    gradient = np.random.default_rng(0).normal(size=(4, 10, 5, 2)).astype(np.float32)
    step = np.asarray(sparse_signs(gradient, jnp.array([0.0, 0.05, 0.071, 1.0])))
    flat, size = step.reshape(4, -1), np.abs(gradient.reshape(4, -1))
    for row, moved in zip(range(4), [1, 5, 8, 100], strict=True):
        chosen = np.argsort(-size[row])[:moved]
        expected = np.zeros(100)
        expected[chosen] = np.sign(gradient.reshape(4, -1)[row, chosen]) / moved
        np.testing.assert_allclose(flat[row], expected, rtol=1e-6)


def test_a_step_leaves_out_what_is_at_its_bound_or_has_no_gradient():
    threat = ThreatModel("l1", 1.0)
    images = jnp.array([[1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.0, 0.0]])
    gradient = jnp.array([[5.0, -4.0, -1.0, 0.0], [1.0, 2.0, -3.0, -1.0]])
    step = threat.steepest(gradient, images, 0.5)
    np.testing.assert_array_equal(step, [[0, 0, -1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(threat.steepest(gradient, sparsity=0.5)[0], [0.5, -0.5, 0, 0])
    at_nan = threat.steepest(jnp.array([[jnp.nan, 2.0, 1.0, 0.0]]), sparsity=0.25)
    np.testing.assert_array_equal(at_nan, [[0, 1, 0, 0]])


def test_random_points_fill_the_ball_evenly():
    keys = per_example_keys(jax.random.key(1), 4000)
    draws = np.asarray(jax.vmap(lambda key: uniform_in_ball(key, (3,), jnp.float32))(keys))
    # In three dimensions length^3 of a uniform point is uniform on [0, 1]; its first coordinate has
    # the density 3/2 (1 - |t|)^2, and so the variance 1/10 and the fourth moment 1/35.
    volumes = np.sort(np.abs(draws).sum(1) ** 3)
    assert np.abs(volumes - (np.arange(4000) + 0.5) / 4000).max() < 0.04
    assert np.abs(draws.mean(0)).max() < 6 * np.sqrt(0.1 / 4000)
    assert np.abs(draws.var(0) - 0.1).max() < 6 * np.sqrt((1 / 35 - 1 / 100) / 4000)
    threat = ThreatModel("l1", 0.5)
    start = threat.random_start(keys, jnp.full((4000, 3), 0.25))
    assert np.abs(np.asarray(start) - 0.25).sum(1).max() <= 0.5 + 1e-6
    assert np.min(start) == 0


def test_random_directions_have_length_one():
    keys = per_example_keys(jax.random.key(1), 5)
    moves = ThreatModel("l1", 0.5).random_directions(keys, jnp.zeros((5, 4, 4, 1)))
    np.testing.assert_allclose(np.abs(moves).sum((1, 2, 3)), 1, rtol=1e-6)


def test_what_is_short_enough_stays_but_for_what_is_beyond_its_room():
    offset, room = jnp.array([[0.5, -0.75, 0.25]]), jnp.array([[0.125, 1.0, jnp.inf]])
    found = nearest_offset(offset, room, jnp.array([[1.25]]))
    np.testing.assert_array_equal(found, [[0.125, -0.75, 0.25]])
