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
from robustjax.attacks.engine.keys import random_signs

NORMS = ("linf", "l2")


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
    of the number of pixels. With epsilon 0 the clean image comes back exactly.

    A clean image outside the box has no guarantee on its distance: the box is applied last and
    wins. For one inside the box, clipping only brings a point closer to it.

    Attributes:
      norm: "linf" or "l2", the latter over all pixels and channels of an example.
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
        """Brings images into the ball around the clean images, then into the box.

        Under "linf" this is the Euclidean projection on the intersection. Under "l2" the point is
        moved radially and then clipped, as is customary: a point of the intersection, not always
        its nearest one.

        Args:
          images: float `[B, ...]`.
          clean: float `[B, ...]`, the centres of the balls.

        Returns:
          `[B, ...]`, inside the set up to the rounding stated above.
        """
        epsilon = per_example(self.epsilon, clean)
        if self.norm == "linf":
            return self.clip(jnp.clip(images, clean - epsilon, clean + epsilon))
        direction, length = unit_vectors(images - clean)
        inside = length <= epsilon
        # An infinite radius never meets a direction, in the derivative neither.
        radius = jnp.where(inside, 0, epsilon)
        return self.clip(jnp.where(inside, images, clean + radius * direction))

    def steepest(self, gradient: jax.Array) -> jax.Array:
        r"""The unit step that increases a linear function with this gradient the most.

        :math:`\operatorname{sign}(g)` under "linf" and :math:`g / \|g\|_2` under "l2". A zero
        gradient gives a zero step. A NaN entry counts as 0, so that it moves no pixel instead of
        destroying it.

        Args:
          gradient: float `[B, ...]`.

        Returns:
          `[B, ...]`.
        """
        if self.norm == "linf":
            return jnp.sign(jnp.where(jnp.isnan(gradient), 0, gradient))
        return unit_vectors(gradient)[0]

    def dual_norm(self, gradient: jax.Array) -> jax.Array:
        r"""The norm dual to the ball's, per example: the most that a step of length 1 can gain.

        Args:
          gradient: float `[B, ...]`.

        Returns:
          `[B]`: :math:`\|g\|_1` under "linf", :math:`\|g\|_2` under "l2".
        """
        flat = gradient.reshape(gradient.shape[0], -1)
        return jnp.linalg.norm(flat, ord=1 if self.norm == "linf" else 2, axis=1)

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
          `[B, ...]`. Under "linf" a draw from the cube over its largest entry.
        """
        shape, dtype = clean.shape[1:], clean.dtype
        if self.norm == "linf":
            draws = jax.vmap(lambda key: jax.random.uniform(key, shape, dtype, -1.0, 1.0))(keys)
            axes = tuple(range(1, draws.ndim))
            return draws / jnp.max(jnp.abs(draws), axis=axes, keepdims=True, initial=0)
        draws = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        return unit_vectors(draws)[0]

    def sign_start(self, keys: jax.Array, clean: jax.Array) -> jax.Array:
        """A random sign per pixel, at half the radius, not clipped to the box (NAP's start).

        Args:
          keys: typed keys `[B]`, one per example.
          clean: float `[B, ...]`.

        Returns:
          `[B, ...]`: every pixel moved by epsilon / 2 under "linf"; under "l2" all by the same
          amount, such that the whole move has length epsilon / 2.
        """
        shape, dtype = clean.shape[1:], clean.dtype
        signs = jax.vmap(lambda key: random_signs(key, shape, dtype))(keys)
        size = 0.5 if self.norm == "linf" else 0.5 / math.sqrt(max(math.prod(shape), 1))
        return clean + per_example(self.epsilon, clean) * size * signs
