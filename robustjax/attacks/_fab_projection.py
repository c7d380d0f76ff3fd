"""The smallest move that brings a point onto a hyperplane and keeps it inside a box."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from robustjax.attacks._float_bisection import largest_where
from robustjax.attacks.engine.rows import flat_rows
from robustjax.attacks.threat_model import ThreatModel, per_example


def smallest_move(
    images: jax.Array, normal: jax.Array, gap: jax.Array, threat: ThreatModel
) -> jax.Array:
    r"""The smallest move :math:`\delta` with :math:`\langle w, \delta \rangle = g` inside the box.

    Every pixel moves in the direction in which it helps, by the same amount under "linf" and in
    proportion to :math:`|w|` under "l2", until it meets its bound. Under "l1" one pixel after the
    other does, those of the largest :math:`|w|` first, and the last ones go part of their way
    (where several weigh the same, all of them the same part). Pixels of no weight stay (in float32
    also those below 1e-19 of the largest weight). A hyperplane that does not meet the box is
    approached as far as possible: all other pixels move to their bounds.

    Args:
      images: float `[B, ...]`, inside the box.
      normal: finite `[B, ...]`, the normal vector w of each example's hyperplane.
      gap: `[B]`, by how much :math:`\langle w, x \rangle` has to grow, not NaN. For the hyperplane
        :math:`\langle w, v \rangle = b` that is :math:`b - \langle w, x \rangle`.
      threat: its norm measures the move, its bounds are the box. Its epsilon plays no part.

    Returns:
      `[B, ...]`, the moves.

    Source: Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack (Croce &
      Hein, 2020), section 2.2. They sort the pixels by when each meets its bound; here
      Newton's method finds the same point.
    """
    limits = jnp.finfo(images.dtype)
    flat_normal = flat_rows(normal)
    largest = jnp.max(jnp.abs(flat_normal), axis=1, initial=0)
    scale = jnp.where(largest >= limits.tiny, largest, jnp.inf)
    weights = jnp.abs(flat_normal) / scale[:, None]
    # No square of a weight that counts under- or overflows.
    weights = jnp.where(weights >= jnp.sqrt(limits.tiny), weights, 0)
    needed = jnp.minimum(jnp.abs(gap) / scale, jnp.sqrt(limits.max))

    direction = flat_rows(jnp.sign(normal) * per_example(jnp.sign(gap), normal))
    room = threat.room(flat_rows(images), direction)
    if threat.norm == "l1":
        sizes = _heaviest_first(needed, weights, room)
    else:
        speed = weights if threat.norm == "l2" else jnp.sign(weights)
        time = _time_to_reach(needed, weights, speed, room)
        sizes = jnp.minimum(time[:, None] * speed, room)
    return (direction * sizes).reshape(images.shape)


def _heaviest_first(needed: jax.Array, weights: jax.Array, room: jax.Array) -> jax.Array:
    r"""The moves of the least sum with :math:`\sum_i w_i m_i =` `needed`.

    Args:
      needed: as for `_time_to_reach`.
      weights: likewise.
      room: likewise.

    Returns:
      `[B, D]`, in [0, r]; where `needed` is out of reach, r wherever there is a weight.
    """
    needed = needed[:, None]
    # Nobody goes further than alone it would have to, so there is always a number.
    goal = jnp.where(weights > 0, needed / jnp.where(weights > 0, weights, 1), 0)
    most = jnp.minimum(room, goal)

    def reached(by: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(by, weights * most, 0), axis=1, keepdims=True)

    heaviest = jnp.max(weights, axis=1, keepdims=True, initial=0)
    least = largest_where(lambda weight: reached(weights >= weight) >= needed, 2 * heaviest)
    last = weights == least
    left = needed - reached(weights > least)
    share = jnp.clip(left / jnp.maximum(reached(last), jnp.finfo(weights.dtype).tiny), 0, 1)
    return jnp.where(weights > least, most, jnp.where(last, share * most, 0))


def _time_to_reach(
    needed: jax.Array, weights: jax.Array, speed: jax.Array, room: jax.Array
) -> jax.Array:
    r"""The smallest t with :math:`\sum_i w_i \min(t s_i, r_i) =` `needed`.

    The sum is concave and piecewise linear in t. So Newton's method from t = 0 never goes too far,
    and ends exactly on the piece that it looks for, when no more pixels meet their bounds. A row
    that has ended stays where it is, so its result does not depend on how long the others take.

    Args:
      needed: `[B]`, finite, at least 0.
      weights: `[B, D]`, w in [0, 1].
      speed: `[B, D]`, s in [0, 1], 0 exactly where the weight is.
      room: `[B, D]`, r at least 0, may be infinite.

    Returns:
      `[B]`; the largest finite number where the sum stays below `needed`.
    """
    forever = jnp.finfo(weights.dtype).max

    def newton(time):
        at_bound = time[:, None] * speed >= room
        reached = jnp.sum(jnp.where(at_bound, weights * room, 0), axis=1)
        slope = jnp.sum(jnp.where(at_bound, 0, weights * speed), axis=1)
        return jnp.where(slope > 0, jnp.clip((needed - reached) / slope, time, forever), forever)

    def body(state):
        time, _ = state
        later = newton(time)
        return later, later > time

    start = (jnp.zeros_like(needed), jnp.ones(needed.shape, bool))
    time, _ = jax.lax.while_loop(lambda state: state[1].any(), body, start)
    return time
