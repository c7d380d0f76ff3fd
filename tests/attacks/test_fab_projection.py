"""The smallest move onto a hyperplane in a box, against sorting in float64 and KKT conditions."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import optimize

from robustjax.attacks import ThreatModel
from robustjax.attacks._fab_projection import smallest_move

BOXES = [(0.0, 1.0), (-2.0, 0.5), None]


@functools.partial(jax.jit, static_argnames=("norm", "bounds"))
def move(images, normal, gap, *, norm, bounds):
    return smallest_move(images, normal, gap, ThreatModel(norm, bounds=bounds))


def parts(images, normal, gap, norm, bounds):
    """Of one example in float64: the weights, the room of every pixel, and how fast it moves."""
    images, normal = np.float64(images).ravel(), np.float64(normal).ravel()
    direction = np.sign(normal) * np.sign(gap)
    room = np.full(images.shape, np.inf)
    if bounds is not None:
        room = np.where(direction > 0, bounds[1] - images, images - bounds[0])
    weights = np.abs(normal)
    return direction, weights, room, weights if norm == "l2" else np.sign(weights)


def sorted_move(images, normal, gap, norm, bounds):
    """The exact answer: what is reached at each time that a pixel meets its bound, in order."""
    direction, weights, room, speed = parts(images, normal, gap, norm, bounds)
    if norm == "l1":
        return heaviest_first(direction, weights, room, abs(float(gap)))
    moving = np.flatnonzero(weights)
    moving = moving[np.argsort(room[moving] / speed[moving])]
    ends, power = room[moving] / speed[moving], (weights * speed)[moving]
    slopes = np.cumsum(power[::-1])[::-1]  # of the pieces that end there
    starts = np.concatenate([[0], ends[:-1]])
    time, left = 0.0, abs(float(gap))
    for start, end, slope in zip(starts, ends, slopes, strict=True):
        time = min(start + left / slope, end)
        left -= slope * (time - start)
        if time < end:
            break
    return direction * np.where(weights > 0, np.minimum(time * speed, room), 0)


def heaviest_first(direction, weights, room, gap):
    """The least sum of moves: each pixel goes as far as it can before the next lighter one does."""
    sizes = np.zeros(len(weights))
    for pixel in np.argsort(-weights, kind="stable"):
        if weights[pixel]:
            sizes[pixel] = min(room[pixel], max(gap, 0) / weights[pixel])
            gap -= weights[pixel] * sizes[pixel]
    return direction * sizes


def length(moves, norm):
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    return np.linalg.norm(np.float64(moves).reshape(len(moves), -1), order, axis=1)


def example(random, size, bounds):
    """Pixels at and between the bounds, weights over orders of magnitude, gaps of every size.

    The last fourth of the gaps is out of reach.
    """
    low, high = bounds or (0.0, 1.0)
    images = random.uniform(low, high, size)
    images = np.where(random.uniform(size=size) < 0.2, random.choice([low, high], size), images)
    normal = random.normal(size=size) * 10.0 ** random.uniform(-2, 1, size)
    normal = np.where(random.uniform(size=size) < 0.2, 0, normal)
    sign = random.choice([-1.0, 1.0], size[0])
    toward = np.where(sign[:, None] * normal > 0, high - images, images - low)
    share = 0.9 * 10.0 ** random.uniform(-4, 0, size[0])
    share[-(size[0] // 4) :] = 1.1
    gap = sign * share * np.sum(np.abs(normal) * toward, axis=1)
    return (np.float32(part) for part in (images, normal, gap))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("bounds", BOXES)
@pytest.mark.parametrize("pixels", [7, 3072])
def test_equals_the_exact_solution(norm, bounds, pixels):
    images, normal, gap = example(np.random.default_rng(pixels), (64, pixels), bounds)
    found = move(images, normal, gap, norm=norm, bounds=bounds)
    rows = zip(images, normal, gap, strict=True)
    exact = np.array([sorted_move(*row, norm, bounds) for row in rows])
    assert found.dtype == jnp.float32
    assert np.all(np.abs(found - exact) <= 2e-4 * np.abs(exact) + 1e-12)
    np.testing.assert_allclose(length(found, norm), length(exact, norm), rtol=2e-5)
    reachable = np.arange(64) < (48 if bounds else 64)
    on_plane = np.sum(np.float64(normal) * np.float64(found), axis=1)
    np.testing.assert_allclose(on_plane[reachable], gap[reachable], rtol=1e-5)


VALUES = st.sampled_from([0.0, 1.0, -1.0, 0.25, -3.0, 1e-3, 7e-20, -2e15, 1e30])
# Of few binary digits, so that float32 and float64 agree on who has met a bound.
PIXELS = st.sampled_from([0.0, 1.0, 0.5, 0.125, 2.0**-20, 1 - 2.0**-20, 0.875])
GAPS = st.one_of(st.floats(-10, 10, width=32), st.sampled_from([0.0, 1e-25, 4e28, -1e15]))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@hypothesis.given(
    st.lists(PIXELS, min_size=5, max_size=5), st.lists(VALUES, min_size=5, max_size=5), GAPS
)
@hypothesis.settings(deadline=None, max_examples=200)
def test_reaches_what_can_be_reached_and_moves_no_further(norm, images, normal, gap):
    images, normal, gap = (np.float32([part]) for part in (images, normal, gap))
    normal_seen = np.where(np.abs(normal) > 2e-19 * np.abs(normal).max(), normal, 0)
    found = np.float64(move(images, normal, gap, norm=norm, bounds=(0.0, 1.0)))[0]
    direction, weights, room, speed = parts(images[0], normal_seen[0], gap[0], norm, (0.0, 1.0))
    size = found * direction
    assert np.all(size >= 0) and np.all(size <= room) and np.all(found[weights == 0] == 0)
    needed, reachable = abs(float(gap[0])), np.sum(weights * room * (weights > 0))
    reached = np.sum(weights * size)
    rounding = 1e-6 * max(reachable, weights.max() * 1e-30)
    assert reached == pytest.approx(min(needed, reachable), rel=1e-5, abs=rounding)
    # The KKT conditions: one multiplier for all that move freely, beyond the rest's bounds.
    free = (weights > 1e-12 * weights.max()) & (size < room)
    if free.any() and needed:
        multiplier = np.max(size[free] / speed[free])
        # Float32 has no subnormal moves.
        np.testing.assert_allclose(size[free], multiplier * speed[free], rtol=1e-5, atol=1e-37)
        stopped = (weights > 0) & (size == room)
        assert np.all(room[stopped] <= multiplier * speed[stopped] * (1 + 1e-5))


@pytest.mark.parametrize("gap", [0.375, -0.375, 2.0, 90.0])
def test_under_l1_ties_share_and_the_sum_is_that_of_a_linear_program(gap):
    images = np.float32([[0.25, 1.0, 0.0, 0.5, 0.5, 0.75]])
    normal = np.float32([[1.0, -2.0, 2.0, 0.5, -1.0, 0.0]])
    found = np.float64(move(images, normal, np.float32([gap]), norm="l1", bounds=(0.0, 1.0)))[0]
    sign, weights = np.sign(gap), np.abs(normal[0])
    room = np.where(sign * normal[0] > 0, 1 - images[0], images[0])
    reachable = min(abs(gap), float(weights @ room))
    best = optimize.linprog(
        np.ones(6), A_eq=weights[None], b_eq=[reachable], bounds=[(0, float(part)) for part in room]
    )
    assert normal[0] @ found == pytest.approx(sign * reachable, rel=1e-6)
    assert np.abs(found).sum() == pytest.approx(best.fun, rel=1e-6)
    assert np.all(images[0] + found >= 0) and np.all(images[0] + found <= 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_a_box_it_is_the_closed_form(norm):
    random = np.random.default_rng(2)
    images, normal = random.normal(size=(2, 8, 2, 3)).astype(np.float32)
    gap = random.normal(size=8).astype(np.float32)
    found = move(images, normal, gap, norm=norm, bounds=None)
    flat = np.float64(normal).reshape(8, -1)
    if norm == "l1":
        largest = np.abs(flat) == np.abs(flat).max(1, keepdims=True)
        expected = np.where(largest, gap[:, None] / np.where(flat == 0, 1, flat), 0)
    elif norm == "linf":
        expected = (gap / np.abs(flat).sum(1))[:, None] * np.sign(flat)
    else:
        expected = (gap / (flat**2).sum(1))[:, None] * flat
    np.testing.assert_allclose(found, expected.reshape(images.shape), rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("bounds", BOXES)
def test_zero_and_subnormal_weights_move_nothing(norm, bounds):
    images = np.full((2, 3), 0.25, np.float32)
    normal = np.float32([[0, 0, 0], [1e-40, 0, -1e-41]])
    found = move(images, normal, np.float32([1.0, -1.0]), norm=norm, bounds=bounds)
    np.testing.assert_array_equal(found, 0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_out_of_reach_all_pixels_go_to_their_bounds(norm):
    images = np.float32([[0.25, 0.5, 0.75, 1.0]] * 2)
    normal = np.float32([[1e-3, -2, 0, 5]] * 2)
    found = images + move(images, normal, np.float32([9, -9]), norm=norm, bounds=(0.0, 1.0))
    np.testing.assert_array_equal(found, np.float32([[1, 0, 0.75, 1], [0, 1, 0.75, 0]]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_each_example_has_its_own_bounds(norm):
    images, normal, gap = example(np.random.default_rng(5), (6, 9), (0.25, 0.75))
    low, high = np.float32([0, 0.25] * 3), np.float32([1, 0.75] * 3)
    found = smallest_move(images, normal, gap, ThreatModel(norm, bounds=(low, high)))
    for row in range(6):
        exact = sorted_move(images[row], normal[row], gap[row], norm, (low[row], high[row]))
        np.testing.assert_allclose(found[row], exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_does_not_depend_on_the_company(norm):
    images, normal, gap = example(np.random.default_rng(4), (32, 50), (0.0, 1.0))
    together = move(images, normal, gap, norm=norm, bounds=(0.0, 1.0))
    easy = np.where(np.arange(32) < 16, gap, 0).astype(np.float32)
    np.testing.assert_array_equal(
        move(images, normal, easy, norm=norm, bounds=(0.0, 1.0))[:16], together[:16]
    )
