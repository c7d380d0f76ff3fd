"""The norm ball and the box: projection, random points and steepest steps."""

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from robustjax.attacks import ThreatModel
from robustjax.attacks.engine.keys import fold_in_each, per_example_keys
from robustjax.attacks.threat_model import unit_vectors

NORMS = ["linf", "l2", "l1"]
SHAPE = (3, 2, 2, 1)
# XLA on CPU takes subnormal numbers for 0.
FLOATS = {"width": 32, "allow_subnormal": False}
PIXELS = hnp.arrays(np.float32, SHAPE, elements=st.floats(0, 1, **FLOATS))
ANYTHING = hnp.arrays(
    np.float32, SHAPE, elements=st.floats(allow_nan=False, allow_infinity=False, **FLOATS)
)
EPSILONS = hnp.arrays(np.float32, (3,), elements=st.floats(0, 2, **FLOATS))


def distance(norm, images, clean):
    offset = (np.asarray(images, np.float64) - np.asarray(clean, np.float64)).reshape(3, -1)
    return np.linalg.norm(offset, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


def tolerance(norm, epsilon):
    power = {"linf": 0, "l2": 0.5, "l1": 1}[norm]
    half_unit = 2.0**-23 * np.prod(SHAPE[1:]) ** power
    return half_unit + (0 if norm == "linf" else 1e-5 * epsilon)


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(images=ANYTHING, clean=PIXELS, epsilon=EPSILONS)
def test_projection_is_inside_ball_and_box(norm, images, clean, epsilon):
    projected = np.asarray(ThreatModel(norm, epsilon).project(jnp.asarray(images), clean))
    assert (projected >= 0).all() and (projected <= 1).all()
    assert (distance(norm, projected, clean) <= epsilon + tolerance(norm, epsilon)).all()


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(images=PIXELS, clean=PIXELS, epsilon=EPSILONS)
def test_projection_leaves_inner_points_alone(norm, images, clean, epsilon):
    inside = distance(norm, images, clean) <= epsilon * (1 - 1e-5) - 1e-6
    projected = np.asarray(ThreatModel(norm, epsilon).project(jnp.asarray(images), clean))
    np.testing.assert_array_equal(projected[inside], images[inside])


@pytest.mark.parametrize("norm", NORMS)
@hypothesis.given(images=ANYTHING, clean=PIXELS)
def test_epsilon_zero_returns_the_clean_image_exactly(norm, images, clean):
    projected = ThreatModel(norm, 0.0).project(jnp.asarray(images), clean)
    np.testing.assert_array_equal(projected, clean)


def test_l2_projection_is_radial():
    clean = jnp.zeros((1, 2))
    projected = ThreatModel("l2", 0.5, None).project(jnp.array([[3.0, -4.0]]), clean)
    np.testing.assert_allclose(projected, [[0.3, -0.4]], rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_ball_and_no_box(norm):
    images = jnp.array([[-7.0, 0.5, 9.0]])
    clean = jnp.full((1, 3), 0.5)
    np.testing.assert_array_equal(ThreatModel(norm, np.inf, None).project(images, clean), images)
    np.testing.assert_array_equal(
        ThreatModel(norm, np.inf).project(images, clean), [[0.0, 0.5, 1.0]]
    )


def test_the_box_wins_over_the_ball_for_a_clean_image_outside_the_box():
    projected = ThreatModel("linf", 0.1).project(jnp.array([[1.55]]), jnp.array([[1.5]]))
    np.testing.assert_array_equal(projected, [[1.0]])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30, 1e38])
def test_steepest_step_at_any_magnitude(scale):
    gradient = np.float32(scale) * np.array([[0.6, -0.8], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(
        ThreatModel("l2").steepest(jnp.asarray(gradient)), [[0.6, -0.8], [0, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(
        ThreatModel("linf").steepest(jnp.asarray(gradient)), [[1, -1], [0, 0]]
    )
    np.testing.assert_array_equal(
        ThreatModel("l1").steepest(jnp.asarray(gradient)), [[0, -1], [0, 0]]
    )


@pytest.mark.parametrize("norm", NORMS)
def test_nan_in_a_gradient_moves_no_pixel(norm):
    step = ThreatModel(norm).steepest(jnp.array([[jnp.nan, 2.0], [jnp.nan, jnp.nan]]))
    np.testing.assert_array_equal(step, [[0, 1], [0, 0]])


def test_an_infinite_gradient_gives_a_unit_step():
    direction, _ = unit_vectors(jnp.array([[jnp.inf, 0.0], [-jnp.inf, jnp.inf]]))
    np.testing.assert_allclose(direction, [[1, 0], [-(0.5**0.5), 0.5**0.5]], rtol=1e-6)


def test_unit_vectors_and_the_projection_have_finite_derivatives():
    vectors = jnp.array([[0.0, 0.0], [3e-30, 4e-30], [3.0, 4.0]])
    # (w - u <u, w>) / |v|, which is w / |v| for a w across v.
    across = jnp.array([4.0, -3.0])
    directions = jax.grad(lambda v: (unit_vectors(v)[0] @ across).sum())(vectors)
    expected = [[0, 0], [0.8e30, -0.6e30], [0.8, -0.6]]
    np.testing.assert_allclose(directions, expected, rtol=1e-5)
    lengths = jax.grad(lambda v: unit_vectors(v)[1].sum())(vectors)
    np.testing.assert_allclose(lengths, [[0, 0], [0.6, 0.8], [0.6, 0.8]], rtol=1e-6)
    for epsilon in (0.0, 1.0, np.inf):
        threat = ThreatModel("l2", epsilon, None)
        gradient = jax.grad(lambda v, t=threat: t.project(v, jnp.zeros_like(v)).sum())(vectors)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient[0], 1)


def test_dual_norm():
    gradient = jnp.array([[[3.0, -4.0]]])
    assert ThreatModel("linf").dual_norm(gradient) == 7
    assert ThreatModel("l2").dual_norm(gradient) == 5
    assert ThreatModel("l1").dual_norm(gradient) == 4


def test_uniform_start_fills_the_linf_ball():
    keys = per_example_keys(jax.random.key(0), 2000)
    clean = jnp.zeros((2000, 2))
    draws = np.asarray(ThreatModel("linf", 0.5, None).random_start(keys, clean))
    # Uniform on [-1/2, 1/2]: variance 1/12, fourth moment 1/80; six standard errors.
    assert np.abs(draws).max() <= 0.5 and np.abs(draws).max() > 0.49
    assert abs(draws.var() - 1 / 12) < 6 * np.sqrt((1 / 80 - 1 / 144) / 4000)
    assert abs(draws.mean()) < 6 * np.sqrt(1 / 12 / 4000)


def test_uniform_start_fills_the_l2_ball():
    keys = per_example_keys(jax.random.key(1), 2000)
    draws = np.asarray(ThreatModel("l2", 0.5, None).random_start(keys, jnp.zeros((2000, 3))))
    # In three dimensions (length / epsilon)^3 of a uniform point is uniform on [0, 1].
    volumes = np.sort((np.linalg.norm(draws, axis=1) / 0.5) ** 3)
    assert np.abs(volumes - (np.arange(2000) + 0.5) / 2000).max() < 0.05
    assert np.abs(draws.mean(0)).max() < 6 * 0.5 / np.sqrt(5 * 2000)


def test_sign_start_has_half_the_radius_and_ignores_the_box():
    keys = per_example_keys(jax.random.key(0), 2)
    clean = jnp.zeros((2, 4, 4, 1))
    epsilon = jnp.array([0.5, 0.25])
    moved = np.asarray(ThreatModel("linf", epsilon).sign_start(keys, clean))
    np.testing.assert_array_equal(np.abs(moved[0]), 0.25)
    np.testing.assert_array_equal(np.abs(moved[1]), 0.125)
    assert (moved < 0).any() and (moved > 0).any()
    moved = ThreatModel("l2", epsilon).sign_start(keys, clean).reshape(2, -1)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), [0.25, 0.125], rtol=1e-6)
    moved = ThreatModel("l1", epsilon).sign_start(keys, clean).reshape(2, -1)
    np.testing.assert_allclose(np.abs(moved), [[0.25 / 16] * 16, [0.125 / 16] * 16], rtol=1e-6)


def test_is_a_pytree_with_a_static_norm():
    threat = ThreatModel("l2", 0.5, (0.0, 2.0))
    assert jax.tree.leaves(threat) == [0.5, 0.0, 2.0]
    images, clean = jnp.full((1, 1), 3.0), jnp.zeros((1, 1))
    batched = ThreatModel("l2", jnp.array([0.5, np.inf]), (0.0, 2.0))
    axes = ThreatModel("l2", 0, (None, None))
    project = jax.jit(jax.vmap(lambda t: t.project(images, clean), in_axes=(axes,)))
    np.testing.assert_allclose(project(batched).ravel(), [0.5, 2.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "l0"}, "norm=l0: accepted are linf, l2, l1"),
        ({"epsilon": -0.1}, "epsilon=-0.1: accepted are"),
        ({"epsilon": float("nan")}, "epsilon=nan: accepted are"),
        ({"bounds": (1.0, 0.0)}, "accepted are those with low not above high"),
        ({"bounds": (0.0,)}, "bounds=.*: accepted are .low, high., and None"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(**arguments)


def test_one_key_gives_each_position_its_own():
    keys = per_example_keys(jax.random.key(3), 4)
    data = np.asarray(jax.random.key_data(keys))
    assert len(np.unique(data, axis=0)) == 4
    longer = jax.random.key_data(per_example_keys(jax.random.key(3), 9))
    np.testing.assert_array_equal(longer[:4], data)
    raw = jax.random.key_data(per_example_keys(jax.random.PRNGKey(3), 4))
    np.testing.assert_array_equal(raw, data)
    np.testing.assert_array_equal(jax.random.key_data(per_example_keys(keys, 4)), data)
    np.testing.assert_array_equal(
        jax.random.key_data(per_example_keys(jax.random.key_data(keys), 4)), data
    )
    folded = jax.random.key_data(fold_in_each(keys, 1))
    assert not (np.asarray(folded) == data).all(1).any()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, "accepted are random keys of JAX"),
        (np.zeros(2, np.float32), "key=float32"),
        (jax.random.split(jax.random.key(0), 3), "one for each of the 4 examples"),
    ],
)
def test_key_errors(key, message):
    with pytest.raises(ValueError, match=message):
        per_example_keys(key, 4)
