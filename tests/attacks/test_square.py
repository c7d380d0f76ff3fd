"""Square: the published schedule, closed forms on linear models, and its invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel
from robustjax.attacks import _square_windows as windows

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
# The same down each column, as stripes are: windows then find what there is to gain.
WEIGHTS = np.broadcast_to(RANDOM.normal(size=(6, 3, 4)), (6, 6, 3, 4)).reshape(108, 4)
WEIGHTS = WEIGHTS.astype(np.float32)
IMAGES = RANDOM.uniform(size=(16, 6, 6, 3)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(16, 108) @ WEIGHTS, axis=1)
EPSILON = {"linf": 0.08, "l2": 0.6, "l1": 1.5}


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def margins(images):
    logits = np.asarray(images, np.float64).reshape(len(images), -1) @ WEIGHTS.astype(np.float64)
    true = logits[np.arange(len(images)), LABELS].copy()
    logits[np.arange(len(images)), LABELS] = -np.inf
    return true - logits.max(axis=1)


def least_margins(norm):
    """What the ball, without a box, lets the margin of the linear model fall to: float64."""
    directions = WEIGHTS.astype(np.float64).T[LABELS][:, :, None] - WEIGHTS.astype(np.float64)
    dual = np.abs(directions).sum(1) if norm == "linf" else np.linalg.norm(directions, axis=1)
    logits = IMAGES.reshape(16, 108).astype(np.float64) @ WEIGHTS
    leads = logits[np.arange(16), LABELS][:, None] - logits - EPSILON[norm] * dual
    leads[np.arange(16), LABELS] = np.inf
    return leads.min(axis=1)


def test_the_windows_shrink_as_published():
    sides = windows.window_sides(5000, 32, 32, 0.8, norm="linf", rescale=False)
    # The queries after which the window changes, and the sides: AutoAttack's 5000 of 10,000.
    changes = np.flatnonzero(np.diff(sides)) + 1
    np.testing.assert_array_equal(changes, [11, 51, 201, 501, 1001, 2001, 4001])
    np.testing.assert_array_equal(sides[[0, *changes]], [29, 20, 14, 10, 7, 5, 4, 3])
    whole = windows.window_sides(100, 32, 32, 0.8, norm="linf", rescale=True)
    assert whole[-1] == round((0.8 / 512 * 1024) ** 0.5)
    l2 = windows.window_sides(5000, 28, 28, 0.8, norm="l2", rescale=False)
    assert set(l2 % 2) == {1} and l2.min() == 3 and l2[0] == 25


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_never_breaks_what_cannot_be_broken_and_gains_a_part_of_what_there_is(norm):
    threat = ThreatModel(norm, EPSILON[norm], None)
    result = attacks.square(KEY, linear, IMAGES, LABELS, threat, queries=400)
    least = least_margins(norm)
    assert (least > 0).sum() >= 2
    assert not np.any(result.success & (least > 0))
    gained = (margins(IMAGES) - margins(result.images)) / (margins(IMAGES) - least)
    standing = ~np.asarray(result.success)
    # A random direction gains nothing on average, and under l2 rarely a tenth.
    assert 0 < standing.sum() < 16 and gained[standing].min() > {"linf": 0.3, "l2": 0.15}[norm]
    np.testing.assert_array_equal(result.success, margins(result.images) < 0)
    np.testing.assert_array_equal(result.backward_passes, 0)
    # More queries never hurt, and fewer lie on the way: the draws are the same.
    fewer = attacks.square(KEY, linear, IMAGES, LABELS, threat, queries=50)
    assert np.all(margins(result.images) <= margins(fewer.images) + 1e-5)
    assert np.all(margins(fewer.images) <= margins(IMAGES) + 1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_it_returns_lies_on_the_ball_and_in_the_box(norm):
    threat = ThreatModel(norm, EPSILON[norm])
    labels = np.where(np.arange(16) < 2, (LABELS + 1) % 4, LABELS)
    result = attacks.square(KEY, linear, IMAGES, labels, threat, queries=30, restarts=2)
    images = np.asarray(result.images, np.float64)
    moved = (images - IMAGES).reshape(16, -1)
    size = np.abs(moved).max(1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert size.max() <= EPSILON[norm] * (1 + 1e-5)
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(result.images[:2], IMAGES[:2])  # wrong as they are
    assert result.success[:2].all()
    if norm == "linf":
        inside = (images[2:] > 0) & (images[2:] < 1)
        np.testing.assert_allclose(np.abs(images - IMAGES)[2:][inside], 0.08, rtol=1e-5)


def test_the_start_is_of_stripes_or_tiles():
    keys = jax.random.split(KEY, 16)
    moved = np.asarray(windows.stripes(keys, jnp.full((16, 6, 6, 3), 0.5), ThreatModel()) - 0.5)
    np.testing.assert_allclose(np.abs(moved), 8 / 255, rtol=1e-5)
    np.testing.assert_array_equal(moved, np.broadcast_to(moved[:, :1], moved.shape))
    assert 0.3 < (moved > 0).mean() < 0.7
    grey = jnp.full((16, 10, 10, 1), 0.5)
    tiles = np.asarray(windows.tiles(keys, grey, ThreatModel("l2", 0.7)) - 0.5)
    np.testing.assert_allclose(np.linalg.norm(tiles.reshape(16, -1), axis=1), 0.7, rtol=1e-5)
    # Each 2 x 2 tile is a positive and a negative half.
    np.testing.assert_allclose(tiles.reshape(16, 5, 2, 5, 2).sum((2, 4)), 0, atol=1e-6)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1)])
def test_the_pseudo_gaussian_adds_concentric_rectangles(norm, order):
    # Upper half 2 x 5 around (1, 2): rings of weight 1, 1/4 and 1/9, or their squares, by hand.
    second, third = (1 / 4, 1 / 9) if norm == "l2" else (1 / 16, 1 / 81)
    ring = second + third
    upper = np.array([[third, ring, ring, ring, third], [third, ring, 1 + ring, ring, third]])
    upper /= np.linalg.norm(upper.ravel(), order) * 2 ** (1 / order)
    pattern = windows.pseudo_gaussian(5, norm)
    np.testing.assert_allclose(pattern[:2], upper, rtol=1e-6)
    assert (pattern[2:] < 0).all()
    np.testing.assert_allclose(np.linalg.norm(pattern.ravel(), order), 1, rtol=1e-6)


def test_a_window_moves_to_the_other_side_of_the_ball_and_lies_anywhere():
    keys = jax.random.split(KEY, 1000)
    clean = jnp.full((1000, 6, 6, 3), 0.5)
    threat = ThreatModel("linf", 0.25).for_batch(1000)
    found = np.asarray(
        windows.moved_window(keys, clean + 0.25, clean, threat, jnp.full(1000, 3, jnp.int32))
    )
    np.testing.assert_array_equal(np.unique(found), [0.25, 0.75])
    moved = found == 0.25
    # A channel goes up, and so stays, or down by 2 epsilon in nine pixels: even odds.
    np.testing.assert_array_equal(np.unique(moved.sum((1, 2))), [0, 9])
    np.testing.assert_allclose(moved.any((1, 2)).mean(0), 0.5, atol=5 * 0.5 / 1000**0.5)
    marked = moved.any(3)[moved.any((1, 2, 3))]
    for axis in (2, 1):
        lines = marked.any(axis)
        np.testing.assert_array_equal(lines.sum(1), 3)
        # The authors draw a corner below H - s, so the last of the possible places is never used.
        places = np.bincount(lines.argmax(1), minlength=4) / len(lines)
        np.testing.assert_allclose(places, [1 / 3, 1 / 3, 1 / 3, 0], atol=5 * 0.47 / 800**0.5)
        assert places[3] == 0


def exchanged(draws, best, clean, epsilon, side, norm):
    """The authors' proposal for one image [H, W, C], float64, from uniform numbers."""
    height, width, channels = clean.shape
    down, right, clear_down, clear_right = (
        int(draw * (size - side)) for draw, size in zip(draws, [height, width] * 2, strict=False)
    )
    window = np.s_[down : down + side, right : right + side]
    cleared = np.s_[clear_down : clear_down + side, clear_right : clear_right + side]
    delta = best - clean
    union = np.zeros((height, width, 1))
    union[window] = union[cleared] = 1
    pattern = windows.pseudo_gaussian(side, norm).astype(np.float64)
    pattern = pattern.T if draws[4] < 0.5 else pattern
    fresh = pattern[..., None] * np.where(draws[5:] < 0.5, -1, 1)
    if norm == "l1":
        return clean + shortened(
            exchanged_l1(delta, fresh, union, window, cleared, epsilon), epsilon
        )
    fresh += delta[window] / (1e-12 + np.sqrt((delta[window] ** 2).sum((0, 1))))
    unused = max(epsilon**2 - (delta**2).sum(), 0)
    length = np.sqrt(unused / channels + ((delta * union) ** 2).sum())
    fresh *= length / (1e-12 + np.sqrt((fresh**2).sum((0, 1))))
    delta = delta.copy()
    delta[cleared] = 0
    delta[window] = fresh
    return clean + epsilon * delta / np.sqrt((delta**2).sum())


def exchanged_l1(delta, fresh, union, window, cleared, epsilon):
    channels = delta.shape[2]
    fresh = fresh + delta[window] / (1e-12 + np.abs(delta[window]).sum((0, 1)))
    unused = max(epsilon - np.abs(delta).sum(), 0)
    budget = (unused / channels + np.abs(delta * union).sum((0, 1))) * channels
    fresh = fresh * budget / (1e-12 + np.abs(fresh).sum((0, 1)))
    delta = delta.copy()
    delta[cleared] = 0
    delta[window] = fresh
    return delta


def shortened(delta, epsilon):
    """The nearest offset of length epsilon in l1, by sorting."""
    sizes = np.sort(np.abs(delta).ravel())[::-1]
    if sizes.sum() <= epsilon:
        return delta
    thresholds = (np.cumsum(sizes) - epsilon) / np.arange(1, sizes.size + 1)
    threshold = thresholds[np.flatnonzero(sizes > thresholds)[-1]]
    return np.sign(delta) * np.maximum(np.abs(delta) - threshold, 0)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_an_exchange_of_windows_is_the_authors_formula(norm):
    keys = jax.random.split(KEY, 16)
    clean = jnp.asarray(RANDOM.uniform(size=(16, 9, 8, 2)), jnp.float32)
    threat = ThreatModel(norm, 2.0, None).for_batch(16)
    best = jax.jit(windows.tiles)(keys, clean, threat)
    # The first half of the images has not used up its radius, as after clipping to the box.
    best = best.at[:8].set(clean[:8] + 0.6 * (best - clean)[:8])
    patterns = jnp.asarray(windows.padded_patterns(np.array([3]), 9, norm)[0][[0] * 16])
    side = jnp.full(16, 3, jnp.int32)
    found = jax.jit(windows.exchanged_window)(keys, best, clean, threat, side, patterns)
    draws = np.asarray(jax.vmap(lambda key: jax.random.uniform(key, (7,)))(keys))
    for row in range(16):
        points = (np.asarray(images[row], np.float64) for images in (best, clean))
        expected = exchanged(draws[row], *points, 2.0, 3, norm)
        np.testing.assert_allclose(found[row], expected, atol=2e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_run_keeps_the_proposals_that_lower_the_margin(norm):
    # The authors' bookkeeping in NumPy, on the proposals for the same keys.
    queries = 24
    keys = jax.random.split(KEY, 16)
    threat = ThreatModel(norm, EPSILON[norm]).for_batch(16)
    result = attacks.square(keys, linear, IMAGES, LABELS, threat, queries=queries)
    fold = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))
    sides = windows.window_sides(queries, 6, 6, 0.8, norm=norm, rescale=False)
    patterns, which = windows.padded_patterns(sides, 6, norm)
    begin = windows.stripes if norm == "linf" else windows.tiles
    propose = jax.jit(windows.moved_window if norm == "linf" else windows.exchanged_window)
    keys = fold(keys, 0)  # the first and only restart
    best = np.array(begin(fold(keys, 0), IMAGES, threat))
    lowest, kept = margins(best), 0
    for query in range(queries):
        arguments = [fold(keys, query + 2), best, IMAGES, threat, np.full(16, sides[query])]
        if norm != "linf":
            arguments.append(np.repeat(patterns[which[query]][None], 16, axis=0))
        proposal = np.asarray(propose(*arguments))
        margin = margins(proposal)
        accepted = (lowest > 0) & ((margin < lowest) | (margin <= 0))
        best[accepted], lowest[accepted] = proposal[accepted], margin[accepted]
        kept += accepted.sum()
    assert 0 < (lowest <= 0).sum() < 16 and 16 < kept < 8 * queries
    np.testing.assert_allclose(result.images, best, atol=1e-5)
    np.testing.assert_array_equal(result.success, lowest <= 0)


def test_a_tie_is_no_success():
    # Class 1 draws level at most, and of equal logits the argmax is the first.
    def level(images):
        score = images.reshape(len(images), -1).sum(1) - 54.5
        return jnp.stack([jnp.zeros_like(score), jnp.minimum(score, 0)], axis=1)

    images, labels = jnp.full((2, 6, 6, 3), 0.5), np.zeros(2, int)
    result = attacks.square(KEY, level, images, labels, ThreatModel(), queries=60)
    np.testing.assert_array_equal(level(result.images), 0)
    assert not result.success.any()


def test_verdicts_depend_neither_on_the_company_nor_on_jit():
    threat = ThreatModel("linf", 0.05)
    keys = jax.random.split(KEY, 16)
    whole = attacks.square(keys, linear, IMAGES, LABELS, threat, queries=60)
    part = attacks.square(keys[3:7], linear, IMAGES[3:7], LABELS[3:7], threat, queries=60)
    np.testing.assert_allclose(part.images, whole.images[3:7], atol=1e-6)
    inside = jax.jit(lambda: attacks.square(keys, linear, IMAGES, LABELS, threat, queries=60))()
    np.testing.assert_array_equal(inside.success, whole.success)
    assert 0 < whole.success.sum() < 16


def test_without_a_radius_nothing_moves():
    result = attacks.square(KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.0), queries=3)
    np.testing.assert_array_equal(result.images, IMAGES)
    assert not np.any(result.success)


def test_a_second_network_compiles_nothing(count_compilations):
    def run(scale):
        weights = jnp.asarray(WEIGHTS * scale)
        return attacks.square(
            KEY, lambda x: x.reshape(len(x), -1) @ weights, IMAGES, LABELS, ThreatModel(), queries=9
        )

    run(1.0)
    with count_compilations() as compiled:
        run(1.5)
        assert compiled() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 0}, "queries=0: accepted are"),
        ({"initial_share": 0.0}, "initial_share=0: accepted are more than 0"),
        ({"threat": ThreatModel("linf", np.inf)}, "threat.epsilon=inf: accepted are finite"),
        ({"images": IMAGES.reshape(16, 108)}, "accepted are .B, H, W, C."),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"images": IMAGES, "threat": ThreatModel(), **change}
    images, threat = arguments.pop("images"), arguments.pop("threat")
    with pytest.raises(ValueError, match=message):
        attacks.square(KEY, linear, images, LABELS, threat, **arguments)
