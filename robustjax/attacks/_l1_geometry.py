"""The l1 ball inside of a box: the nearest point, steps that move few pixels, random points."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from robustjax.attacks._float_bisection import largest_where
from robustjax.attacks.engine.keys import random_signs
from robustjax.attacks.engine.rows import flat_rows


def nearest_offset(offset: jax.Array, room: jax.Array, epsilon: jax.Array) -> jax.Array:
    r"""The nearest offset to a given one of length epsilon at most, and no pixel beyond its room.

    All pixels lose the same amount :math:`\lambda`, at most what they have, and then are cut off
    where the box ends:

    .. math:: d_i = \operatorname{sign}(\delta_i) \min(\max(|\delta_i| - \lambda, 0), r_i), \quad
              \sum_i |d_i| = \epsilon

    with :math:`\lambda = 0` where that is short enough.

    Args:
      offset: `[B, D]`, from the centre; NaN counts as 0, infinities as the largest number.
      room: `[B, D]`, at least 0, may be infinite: how far each pixel may go in its direction.
      epsilon: `[B, 1]`, at least 0, may be infinite.

    Returns:
      `[B, D]`. It has the derivative of the projection.

    Source: Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers (Croce & Hein,
      2021), the projection on the intersection with the box. They sort the points where a pixel
      begins or ceases to move; here the threshold is found among all numbers.
    """
    limits = jnp.finfo(offset.dtype)
    offset = jnp.nan_to_num(offset, nan=0.0, posinf=limits.max, neginf=limits.min)
    size = jnp.abs(offset)
    fixed_size, fixed_room, fixed_epsilon = jax.lax.stop_gradient((size, room, epsilon))

    def length(threshold: jax.Array) -> jax.Array:
        moved = jnp.minimum(jnp.maximum(fixed_size - threshold, 0), fixed_room)
        return jnp.sum(moved, axis=1, keepdims=True)

    inside = length(jnp.zeros_like(fixed_epsilon)) <= fixed_epsilon
    largest = jnp.max(fixed_size, axis=1, keepdims=True, initial=0)
    too_long = largest_where(lambda threshold: length(threshold) > fixed_epsilon, largest)
    # The next number is the first that is short enough: what is missing there, one unit in the last
    # place of the threshold for each free pixel, is shared out among those.
    threshold = jnp.nextafter(too_long, limits.max)
    free = (fixed_size >= threshold) & (fixed_size - threshold < fixed_room)
    short = jnp.minimum(jnp.maximum(size - threshold, 0), room)
    # An infinite radius never meets a number, in the derivative neither.
    radius = jnp.where(inside, 0, epsilon)
    missing = jnp.where(inside, 0, radius - jnp.sum(short, axis=1, keepdims=True))
    share = missing / jnp.maximum(jnp.sum(free, axis=1, keepdims=True, dtype=size.dtype), 1)
    cut = jnp.clip(short + jnp.where(free, share, 0), 0, room)
    return jnp.sign(offset) * jnp.where(inside, jnp.minimum(size, room), cut)


def sparse_signs(gradient: jax.Array, share: jax.Array | float) -> jax.Array:
    """The step of length 1 that moves the pixels of the largest gradients, all as far.

    Args:
      gradient: `[B, ...]`; NaN counts as 0.
      share: of the numbers of an image, how many move: a scalar or `[B]`, in [0, 1]; the whole
        number above, and at least one. With equal gradients there are more, and never one whose
        gradient is 0.

    Returns:
      `[B, ...]`; 0 where the gradient is.
    """
    flat = jnp.nan_to_num(flat_rows(gradient), nan=0.0)
    size, pixels = jnp.abs(flat), flat.shape[1]
    share = jnp.broadcast_to(jnp.asarray(share, flat.dtype), (len(flat),))[:, None]
    wanted = jnp.clip(jnp.ceil(share * pixels), 1, max(pixels, 1))

    def enough(threshold: jax.Array) -> jax.Array:
        return jnp.sum(size >= threshold, axis=1, keepdims=True, dtype=flat.dtype) >= wanted

    largest = jnp.max(size, axis=1, keepdims=True, initial=0)
    below = largest_where(enough, largest)
    threshold = jnp.where(enough(largest), largest, below)
    signs = jnp.where(size >= threshold, jnp.sign(flat), 0)
    count = jnp.sum(jnp.abs(signs), axis=1, keepdims=True)
    return (signs / jnp.maximum(count, 1)).reshape(gradient.shape)


def over_l1_length(vectors: jax.Array) -> jax.Array:
    """Vectors `[B, ...]` over the sums of their entries' sizes; 0 where those are 0."""
    flat = flat_rows(vectors)
    length = jnp.sum(jnp.abs(flat), axis=1, keepdims=True)
    return (flat / jnp.where(length > 0, length, 1)).reshape(vectors.shape)


def uniform_in_ball(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """A point `shape` of the ball of radius 1, by the measure of volume.

    Of D + 1 exponential draws, each over the sum of them all, the first D are uniform in a simplex:
    so are the sizes of the ball's points.
    """
    size_key, rest_key, sign_key = jax.random.split(key, 3)
    sizes = jax.random.exponential(size_key, shape, dtype)
    rest = jax.random.exponential(rest_key, (), dtype)
    total = jnp.sum(sizes) + rest
    return random_signs(sign_key, shape, dtype) * sizes / jnp.where(total > 0, total, 1)
