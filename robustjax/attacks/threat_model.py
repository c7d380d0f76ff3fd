"""What an adversary may do to an image: stay within a norm ball around it, and within a box.

Every attack needs the same few operations on that set, and they all live here: projection on it,
a random point of it, and the direction in which a first-order step is steepest.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import refusal, require_choice, shown
from robustjax.attacks import _l1_geometry as l1_geometry
from robustjax.attacks.engine.keys import random_signs
from robustjax.attacks.engine.rows import flat_rows

NORMS = ("linf", "l2", "l1")

SPARSITY = 0.02
"""Of the numbers of an image, the share that a step under "l1" moves where nobody says another.

In the literature it is 1 % (sparse l1 descent) or adapts from 20 % on (l1-APGD). On the digits' 64
numbers PGD-20 finds most with two of them.
"""


def per_example(value: jax.Array, images: jax.Array) -> jax.Array:
    """Shapes a scalar or `[B]` value so that it broadcasts against images `[B, ...]`."""
    value = jnp.asarray(value, images.dtype)
    return value if value.ndim == 0 else value.reshape(value.shape + (1,) * (images.ndim - 1))


def unit_vectors(vectors: jax.Array) -> tuple[jax.Array, jax.Array]:
    r"""Splits each example `v` into its direction :math:`v / \|v\|_2` and its length.

    Dividing by the largest entry first keeps the sum of squares from under- or overflowing.

    Args:
      vectors: `[B, ...]`; NaN entries count as 0, infinite ones as the largest finite number.

    Returns:
      `(directions, lengths)` of shapes `[B, ...]` and `[B, 1, ...]`. A vector without a normal
      (not subnormal) entry has direction 0 and length 0.
    """
    limits = jnp.finfo(vectors.dtype)
    vectors = jnp.nan_to_num(vectors, nan=0.0, posinf=limits.max, neginf=limits.min)
    axes = tuple(range(1, vectors.ndim))
    # The result does not depend on the divisor, so no derivative needs to pass through it.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=axes, keepdims=True))
    significant = largest >= limits.tiny
    # XLA divides by multiplying with the reciprocal, which vanishes for the largest numbers.
    shrink = jnp.where(largest > 1, 2.0**-32, 1.0).astype(vectors.dtype)
    scaled = (vectors * shrink) / jnp.where(significant, largest * shrink, 1)
    # The root of 0 has no derivative: it is not taken at all.
    squares = jnp.sum(scaled**2, axis=axes, keepdims=True)
    length = jnp.sqrt(jnp.where(significant, squares, 1))
    directions = jnp.where(significant, scaled / length, 0)
    return directions, jnp.where(significant, length * largest, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ThreatModel:
    r"""The images that an adversary may submit in place of a clean image :math:`x_0`.

    .. math:: \{x : \|x - x_0\| \le \epsilon,\ \text{low} \le x \le \text{high}\}

    A pytree: `epsilon` and `bounds` are leaves and may be traced, `norm` is static.

    Rounding: a projected image is inside the box exactly. Its distance from :math:`x_0` may exceed
    epsilon by the rounding of one addition: under "linf" by half a unit in the last place of a
    pixel (3e-8 in [0, 1]); under "l2" by a relative 1e-5 and that half unit times the square root
    of the number of pixels; under "l1" by a relative 1e-5 and that half unit times the number of
    pixels that move. With epsilon 0 the clean image comes back exactly.

    A clean image outside the box has no guarantee on its distance: the box is applied last and
    wins. For one inside the box, clipping only brings a point closer to it.

    Attributes:
      norm: "linf", "l2" or "l1", the latter two over all pixels and channels of an example.
      epsilon: radius of the ball in units of the images, at least 0; a scalar or `[B]`. Infinity
        removes the ball.
      bounds: `(low, high)` of every pixel, each a scalar or `[B]`, or None for no box.
    """

    norm: str = dataclasses.field(default="linf", metadata={"static": True})
    epsilon: Any = 8 / 255
    bounds: tuple[Any, Any] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        require_choice("norm", self.norm, NORMS)
        # JAX rebuilds this object with tracers and placeholders as leaves: judge only what is a
        # plain number or a NumPy array.
        if isinstance(self.epsilon, int | float | np.ndarray) and not np.all(self.epsilon >= 0):
            raise refusal("epsilon", shown(self.epsilon), "numbers, 0 or more (infinity: no ball)")
        if isinstance(self.bounds, int | float | str):
            raise refusal("bounds", shown(self.bounds), "(low, high), and None")
        if isinstance(self.bounds, tuple | list):
            if len(self.bounds) != 2:
                raise refusal("bounds", shown(self.bounds), "(low, high), and None")
            if all(isinstance(bound, int | float) for bound in self.bounds):
                low, high = self.bounds
                if not low <= high:
                    raise refusal("bounds", f"({low}, {high})", "those with low not above high")

    def for_batch(self, batch_size: int, dtype: Any = jnp.float32) -> ThreatModel:
        """The same set with one epsilon (and one box) per example: every leaf is `[B]`."""
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.asarray(leaf, dtype), (batch_size,)), self
        )

    def clip(self, images: jax.Array) -> jax.Array:
        """Projects images `[B, ...]` on the box alone."""
        if self.bounds is None:
            return images
        low, high = (per_example(bound, images) for bound in self.bounds)
        return jnp.clip(images, low, high)

    def project(self, images: jax.Array, clean: jax.Array) -> jax.Array:
        """Brings images into the ball around the clean images, and into the box.

        Under "linf" and "l1" this is the Euclidean projection on the intersection. Under "l2" the
        point is moved radially and then clipped, as is customary: a point of the intersection, not
        always its nearest one.

        Args:
          images: float `[B, ...]`.
          clean: float `[B, ...]`, the centres of the balls.

        Returns:
          `[B, ...]`, inside the set up to the rounding stated above.
        """
        epsilon = per_example(self.epsilon, clean)
        if self.norm == "linf":
            return self.clip(jnp.clip(images, clean - epsilon, clean + epsilon))
        if self.norm == "l1":
            return self._nearest(images, clean)
        direction, length = unit_vectors(images - clean)
        inside = length <= epsilon
        # An infinite radius never meets a direction, in the derivative neither.
        radius = jnp.where(inside, 0, epsilon)
        return self.clip(jnp.where(inside, images, clean + radius * direction))

    def _nearest(self, images: jax.Array, clean: jax.Array) -> jax.Array:
        """`project` under "l1"."""
        offset, room = images - clean, self.room(clean, images - clean)
        epsilon = jnp.broadcast_to(jnp.asarray(self.epsilon, clean.dtype), (len(clean),))
        moved = l1_geometry.nearest_offset(flat_rows(offset), flat_rows(room), epsilon[:, None])
        moved = moved.reshape(clean.shape)
        # Bit for bit what it was, or the bound.
        kept = (moved == offset) | (jnp.abs(moved) >= room)
        return self.clip(jnp.where(kept, images, clean + moved))

    def room(self, images: jax.Array, direction: jax.Array) -> jax.Array:
        """How far every pixel of images `[B, ...]` is from the bound that it moves to.

        Args:
          images: float `[B, ...]`.
          direction: `[B, ...]`; above 0 it is the upper bound, else the lower one.

        Returns:
          `[B, ...]`, 0 or more; infinite without a box.
        """
        if self.bounds is None:
            return jnp.full_like(images, jnp.inf)
        low, high = (per_example(bound, images) for bound in self.bounds)
        return jnp.maximum(jnp.where(direction > 0, high - images, images - low), 0)

    def steepest(
        self,
        gradient: jax.Array,
        images: jax.Array | None = None,
        sparsity: jax.Array | float = SPARSITY,
    ) -> jax.Array:
        r"""The unit step that increases a linear function with this gradient the most.

        :math:`\operatorname{sign}(g)` under "linf" and :math:`g / \|g\|_2` under "l2". Under "l1"
        it would be one pixel alone, and images would change one pixel after the other: there a
        share of the pixels, those of the largest :math:`|g|`, move equally far. A zero gradient
        gives a zero step. A NaN entry counts as 0, so that it moves no pixel instead of destroying
        it.

        Args:
          gradient: float `[B, ...]`.
          images: `[B, ...]`, where the step begins: under "l1" a pixel that is at the bound that it
            would move to is none of those that move. None: they all can move.
          sparsity: the share that moves under "l1", in [0, 1], at least one pixel; a scalar or
            `[B]`; may be traced.

        Returns:
          `[B, ...]`.
        """
        if self.norm == "linf":
            return jnp.sign(jnp.where(jnp.isnan(gradient), 0, gradient))
        if self.norm == "l1":
            if images is not None:
                gradient = jnp.where(self.room(images, gradient) > 0, gradient, 0)
            return l1_geometry.sparse_signs(gradient, sparsity)
        return unit_vectors(gradient)[0]

    def dual_norm(self, gradient: jax.Array) -> jax.Array:
        r"""The norm dual to the ball's, per example: the most that a step of length 1 can gain.

        Args:
          gradient: float `[B, ...]`.

        Returns:
          `[B]`: :math:`\|g\|_1` under "linf", :math:`\|g\|_2` under "l2", and
          :math:`\|g\|_\infty` under "l1".
        """
        flat = gradient.reshape(gradient.shape[0], -1)
        order = {"linf": 1, "l2": 2, "l1": jnp.inf}[self.norm]
        return jnp.linalg.norm(flat, ord=order, axis=1)

    def random_start(self, keys: jax.Array, clean: jax.Array) -> jax.Array:
        """A point drawn uniformly from the ball (volume measure), then clipped to the box.

        Args:
          keys: typed keys `[B]`, one per example.
          clean: float `[B, ...]`.

        Returns:
          `[B, ...]`. Epsilon must be finite.
        """
        shape, dtype = clean.shape[1:], clean.dtype
        epsilon = per_example(self.epsilon, clean)
        if self.norm == "linf":
            draw = jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1.0, 1.0))(keys)
            return self.project(clean + epsilon * draw, clean)
        if self.norm == "l1":
            draw = jax.vmap(lambda key: l1_geometry.uniform_in_ball(key, shape, dtype))(keys)
            return self.project(clean + epsilon * draw, clean)

        def in_unit_ball(key):
            direction_key, radius_key = jax.random.split(key)
            direction, _ = unit_vectors(jax.random.normal(direction_key, (1, *shape), dtype))
            radius = jax.random.uniform(radius_key, (), dtype) ** (1 / max(math.prod(shape), 1))
            return radius * direction[0]

        return self.project(clean + epsilon * jax.vmap(in_unit_ball)(keys), clean)

    def random_directions(self, keys: jax.Array, clean: jax.Array) -> jax.Array:
        """Random moves of length 1: uniform on the cube's surface, or on the sphere's.

        Args:
          keys: typed keys `[B]`, one per example.
          clean: float `[B, ...]`; of their shape and dtype are the moves.

        Returns:
          `[B, ...]`. Under "linf" a draw from the cube over its largest entry; under "l1" normal
          noise over its length, as FAB begins there.
        """
        shape, dtype = clean.shape[1:], clean.dtype
        if self.norm == "linf":
            draws = jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1.0, 1.0))(keys)
            axes = tuple(range(1, draws.ndim))
            return draws / jnp.max(jnp.abs(draws), axis=axes, keepdims=True, initial=0)
        draws = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        return l1_geometry.over_l1_length(draws) if self.norm == "l1" else unit_vectors(draws)[0]

    def sign_start(self, keys: jax.Array, clean: jax.Array) -> jax.Array:
        """A random sign per pixel, at half the radius, not clipped to the box (NAP's start).

        Args:
          keys: typed keys `[B]`, one per example.
          clean: float `[B, ...]`.

        Returns:
          `[B, ...]`: every pixel moved by epsilon / 2 under "linf"; under "l2" and "l1" all by the
          same amount, such that the whole move has length epsilon / 2.
        """
        shape, dtype = clean.shape[1:], clean.dtype
        signs = jax.vmap(lambda key: random_signs(key, shape, dtype))(keys)
        power = {"linf": 0.0, "l2": 0.5, "l1": 1.0}[self.norm]
        size = 0.5 / max(math.prod(shape), 1) ** power
        return clean + per_example(self.epsilon, clean) * size * signs
