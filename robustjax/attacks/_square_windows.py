"""What Square proposes: a start, and then windows of shrinking size, for every example its own."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.engine.keys import random_halves, random_signs
from robustjax.attacks.threat_model import ThreatModel, per_example, unit_vectors

# Up to these queries the share of the image that a window covers is divided by these.
_HALVINGS = (
    (10, 1),
    (50, 2),
    (200, 4),
    (500, 8),
    (1000, 16),
    (2000, 32),
    (4000, 64),
    (6000, 128),
    (8000, 256),
    (math.inf, 512),
)
# The queries that this schedule is made for.
_SCHEDULE_QUERIES = 10_000


def window_sides(
    queries: int, height: int, width: int, share: float, *, norm: str, rescale: bool
) -> np.ndarray:
    """The side of the window of every query, int32 [queries].

    Args:
      queries: how many there are.
      height: of the images.
      width: of the images.
      share: of the image that the first windows cover.
      norm: "linf"; under "l2" and "l1" sides are odd and at least 3 where that fits.
      rescale: stretches the schedule, made for 10,000 queries, to so many.
    """
    stretch = _SCHEDULE_QUERIES / queries if rescale else 1.0
    limit = min(height, width)
    sides = []
    for query in range(queries):
        position = int(query * stretch)
        part = share / next(by for until, by in _HALVINGS if position <= until)
        side = max(round(math.sqrt(part * height * width)), 1)
        if norm != "linf":
            side = max(side, 3)
            side += 1 - side % 2
            limit = min(height, width) - (1 - min(height, width) % 2)
        sides.append(min(side, limit))
    return np.array(sides, np.int32)


def stripes(keys: jax.Array, clean: jax.Array, threat: ThreatModel) -> jax.Array:
    """The start under "linf": every column of every channel moved by epsilon up or down."""
    _, _, width, channels = clean.shape
    signs = jax.vmap(lambda key: random_signs(key, (1, width, channels), clean.dtype))(keys)
    return threat.project(clean + per_example(threat.epsilon, clean) * signs, clean)


def tiles(keys: jax.Array, clean: jax.Array, threat: ThreatModel) -> jax.Array:
    """The start under "l2" and "l1": pseudo-Gaussian tiles of random signs and directions.

    Under "l2" all are scaled to length epsilon in all; under "l1", where each has length 1, what
    lies outside of the ball is projected.
    """
    _, height, width, channels = clean.shape
    side = max(height // 5, 1)
    first = (height - 5 * side) // 2 if height >= 5 else 0
    down, across = height // side, width // side
    pattern = pseudo_gaussian(side, threat.norm)

    def perturbation(key):
        sign_key, turn_key = jax.random.split(key)
        signs = random_signs(sign_key, (down, across, channels), clean.dtype)
        turned = random_halves(turn_key, (down, across))
        tile = jnp.where(turned[..., None, None], pattern.T, pattern)
        grid = jnp.einsum("ijhw,ijc->ihjwc", tile, signs)
        grid = grid.reshape(down * side, across * side, channels)
        canvas = jnp.zeros((height + first, width + first, channels), clean.dtype)
        canvas = canvas.at[first : first + down * side, first : first + across * side].set(grid)
        return canvas[:height, :width]

    perturbations = jax.vmap(perturbation)(keys)
    if threat.norm == "l1":
        return threat.project(clean + perturbations, clean)
    directions, _ = unit_vectors(perturbations)
    return threat.clip(clean + per_example(threat.epsilon, clean) * directions)


def moved_window(
    keys: jax.Array, best: jax.Array, clean: jax.Array, threat: ThreatModel, side: jax.Array
) -> jax.Array:
    """A proposal under "linf": a window moved by 2 epsilon up or down, each channel by itself.

    Args:
      keys: [B], what is drawn for each example.
      best: [B, H, W, C], where each example stands.
      clean: [B, H, W, C].
      threat: the ball and the box.
      side: int [B], of the windows.
    """
    draws = _uniform(keys, 2 + clean.shape[3])
    window = _window(draws[:, :2], side, clean.shape)
    signs = jnp.where(draws[:, None, None, 2:] < 0.5, -1.0, 1.0).astype(clean.dtype)
    step = 2 * per_example(threat.epsilon, clean) * signs
    return threat.project(best + jnp.where(window, step, 0), clean)


def exchanged_window(
    keys: jax.Array,
    best: jax.Array,
    clean: jax.Array,
    threat: ThreatModel,
    side: jax.Array,
    patterns: jax.Array,
) -> jax.Array:
    """A proposal under "l2" or "l1": one window is cleared, and what it had goes to another.

    Args:
      keys: as for `moved_window`.
      best: as for `moved_window`.
      clean: as for `moved_window`.
      threat: the ball and the box.
      side: int [B], of both windows.
      patterns: [B, S, S], the pseudo-Gaussian of that side in the upper left corner of a square
        that holds the image.
    """
    _, height, width, channels = clean.shape
    draws = _uniform(keys, 5 + channels)
    window = _window(draws[:, :2], side, clean.shape)
    cleared = _window(draws[:, 2:4], side, clean.shape)
    signs = jnp.where(draws[:, None, None, 5:] < 0.5, -1.0, 1.0).astype(clean.dtype)
    turned = draws[:, 4, None, None] < 0.5
    placed = _place(
        jnp.where(turned, jnp.swapaxes(patterns, 1, 2), patterns), draws[:, :2], side, height, width
    )
    delta = best - clean

    def length(values, axes):
        if threat.norm == "l1":
            return jnp.sum(jnp.abs(values), axis=axes, keepdims=True)
        return jnp.sqrt(jnp.sum(values**2, axis=axes, keepdims=True))

    inside = jnp.where(window, delta, 0)
    fresh = jnp.where(window, placed * signs, 0) + inside / (1e-12 + length(inside, (1, 2)))
    epsilon = per_example(threat.epsilon, clean)
    freed = jnp.where(window | cleared, delta, 0)
    if threat.norm == "l1":
        unused = jnp.maximum(epsilon - length(delta, (1, 2, 3)), 0)
        budget = unused + channels * length(freed, (1, 2))
    else:
        unused = jnp.maximum(epsilon**2 - length(delta, (1, 2, 3)) ** 2, 0) / channels
        budget = jnp.sqrt(unused + length(freed, (1, 2, 3)) ** 2)
    fresh = fresh / (1e-12 + length(fresh, (1, 2))) * budget
    delta = jnp.where(window, fresh, jnp.where(cleared, 0, delta))
    if threat.norm == "l1":
        return threat.project(clean + delta, clean)
    directions, _ = unit_vectors(delta)
    return threat.clip(clean + epsilon * directions)


def pseudo_gaussian(side: int, norm: str = "l2") -> np.ndarray:
    """Square's window, float32 [side, side] of length 1: a positive and a negative half.

    Each half adds up concentric rectangles around its middle, the n-th with weight 1 / n^2 under
    "l2" and 1 / n^4 under "l1".
    """
    upper = _concentric(side // 2, side, norm)
    lower = _concentric(side - side // 2, side, norm)
    pattern = np.concatenate([upper, -lower])
    return (pattern / _length(pattern, norm)).astype(np.float32)


def padded_patterns(sides: np.ndarray, size: int, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """The patterns of all sides that occur, and which of them each query has.

    Args:
      sides: int [Q].
      size: of the square that a pattern is put in the upper left corner of.
      norm: "l2" or "l1".

    Returns:
      float32 [P, size, size] and int32 [Q].
    """
    occurring, which = np.unique(sides, return_inverse=True)
    patterns = np.zeros((len(occurring), size, size), np.float32)
    for number, side in enumerate(occurring):
        patterns[number, :side, :side] = pseudo_gaussian(int(side), norm)
    return patterns, which.astype(np.int32)


def _length(values: np.ndarray, norm: str) -> float:
    return float(np.linalg.norm(values.ravel(), 1 if norm == "l1" else 2))


def _concentric(height: int, width: int, norm: str) -> np.ndarray:
    power = 4 if norm == "l1" else 2
    values = np.zeros((height, width))
    top, left = height // 2, width // 2
    for ring in range(max(height // 2 + 1, width // 2 + 1)):
        rows = slice(max(top - ring, 0), min(top + ring + 1, height))
        columns = slice(max(left - ring, 0), min(left + ring + 1, width))
        values[rows, columns] += 1 / (ring + 1) ** power
    length = _length(values, norm)
    return values / length if length else values


def _uniform(keys: jax.Array, count: int) -> jax.Array:
    """Uniform numbers [B, count] in [0, 1)."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32))(keys)


def _corner(draws: jax.Array, side: jax.Array, size: int) -> jax.Array:
    """The first row or column of a window, in [0, size - side)."""
    room = jnp.maximum(size - side, 0)
    inside = (draws * room.astype(draws.dtype)).astype(jnp.int32)
    return jnp.minimum(inside, jnp.maximum(room - 1, 0))


def _window(draws: jax.Array, side: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Marks a window of each example: bool [B, H, W, 1]; draws are [B, 2]."""
    marks = []
    for axis, size in enumerate(shape[1:3]):
        first = _corner(draws[:, axis], side, size)[:, None]
        positions = jnp.arange(size)
        marks.append((positions >= first) & (positions < first + side[:, None]))
    rows, columns = marks
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _place(
    patterns: jax.Array, draws: jax.Array, side: jax.Array, height: int, width: int
) -> jax.Array:
    """Moves patterns [B, S, S] from the corner to their windows: [B, H, W, 1]."""
    for axis, size in ((1, height), (2, width)):
        first = _corner(draws[:, axis - 1], side, size)[:, None]
        source = jnp.clip(jnp.arange(size) - first, 0, patterns.shape[axis] - 1)
        patterns = jnp.take_along_axis(patterns, jnp.expand_dims(source, 3 - axis), axis=axis)
    return patterns[..., None]
