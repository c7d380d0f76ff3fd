"""How Auto-PGD goes ahead under "l1": few pixels at a time, as many as the best point says.

It may come to the ball from larger ones around it, in which the loss is easier to raise.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.engine.rows import flat_rows, where_rows
from robustjax.attacks.threat_model import ThreatModel, per_example

# The share of the pixels that the first steps move.
_FIRST_SHARE = 0.2
# So much fewer pixels move than the best point has changed.
_FEWER = 1.5
# The best point has become sparser if it changes less than this share of what it changed before;
# the step is the radius again then, and gets so much smaller otherwise, down to a least share.
_SPARSER, _SHRINK, _LEAST_STEP = 0.95, 1.5, 0.1
# Of the steps in a ball, how many lie between two looks at the sparsity.
_INTERVAL = 0.04
# The radii of the balls, of that in the end, and the share of the steps in each but the last.
_RADII, _SHARE_IN_LARGER = (3.0, 2.0, 1.0), 0.3


class Course:
    """What happens when, of so many steps: tables by the number of turns that are over.

    A turn is a look at the current point and a move. The last turn in a larger ball moves without a
    gradient: to the point of the next ball that is nearest to the best one.

    Attributes:
      turns: how many there are; after the last, the point is looked at once more.
      radius: float32 [turns + 1], of the ball that the point lies in, over that in the end.
      begins: bool, whether it is the first point in its ball.
      checkpoint: bool, whether the sparsity is looked at.
      leaves: bool, whether the next point lies in the next ball.
      gradients: int32, how many steps along a gradient lie behind.
    """

    def __init__(self, steps: int, multi_epsilon: bool) -> None:
        balls = _balls(steps) if multi_epsilon else ((1.0, steps),)
        tables: dict[str, list] = {
            name: [] for name in ("radius", "begins", "checkpoint", "leaves", "gradients")
        }
        behind = 0
        for radius, inside in balls:
            interval = max(int(_INTERVAL * inside), 1)
            for step in range(inside + 1):
                tables["radius"].append(radius)
                tables["begins"].append(step == 0)
                tables["checkpoint"].append(step > 0 and step % interval == 0)
                tables["leaves"].append(step == inside and radius > 1)
                tables["gradients"].append(behind + step)
            behind += inside
        self.turns = len(tables["radius"]) - 1
        self.radius = np.array(tables["radius"], np.float32)
        self.begins, self.checkpoint, self.leaves = (
            np.array(tables[name]) for name in ("begins", "checkpoint", "leaves")
        )
        self.gradients = np.array(tables["gradients"], np.int32)


@functools.lru_cache(maxsize=64)
def course(steps: int, multi_epsilon: bool) -> Course:
    """The course of so many steps."""
    return Course(steps, multi_epsilon)


def _balls(steps: int) -> tuple[tuple[float, int], ...]:
    """The radius of each ball with the steps in it; the last has one at least."""
    left, balls = steps, []
    for radius in _RADII[:-1]:
        inside = min(math.ceil(_SHARE_IN_LARGER * steps), left - 1)
        left -= inside
        if inside:
            balls.append((radius, inside))
    return (*balls, (_RADII[-1], left))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparsePace:
    """What is remembered of each row, leaves of a leading axis of the batch.

    `share` of the pixels move in a step; `changed` counts those that the best point changed at the
    last checkpoint.
    """

    steps: int = dataclasses.field(metadata={"static": True})
    multi_epsilon: bool = dataclasses.field(metadata={"static": True})
    share: jax.Array
    changed: jax.Array

    @classmethod
    def at_start(
        cls, steps: int, multi_epsilon: bool, images: jax.Array, clean: jax.Array
    ) -> SparsePace:
        """Of rows that begin at these points."""
        if multi_epsilon:
            share, changed = _sparsity(images - clean)
        else:
            pixels = math.prod(images.shape[1:])
            share = jnp.full(len(images), _FIRST_SHARE, images.dtype)
            changed = jnp.full(len(images), pixels, images.dtype)
        return cls(steps, multi_epsilon, share, changed)

    def begins(self, taken: jax.Array) -> jax.Array:
        """Whether a row, after so many turns, has no best point in its ball yet, bool `[B]`."""
        return self._now("begins", taken)

    def counts(self, taken: jax.Array) -> jax.Array:
        """Whether the point of a row lies in the ball that was asked for."""
        return self._now("radius", taken) == 1

    def gradients(self, taken: jax.Array) -> jax.Array:
        """How many gradients the turns of a row have used, int32 `[B]`."""
        return self._now("gradients", taken)

    def adapted(
        self,
        taken: jax.Array,
        loss: jax.Array,
        best_loss: jax.Array,
        best_offset: jax.Array,
        step_size: jax.Array,
        epsilon: jax.Array,
    ) -> tuple[SparsePace, jax.Array, jax.Array]:
        """At a checkpoint looks at how many pixels the best point has changed.

        Args:
          taken: int32 `[B]`, turns so far.
          loss: `[B]`, not looked at.
          best_loss: `[B]`, not looked at.
          best_offset: `[B, ...]`, from the clean image to the best point.
          step_size: `[B]`.
          epsilon: `[B]`, of the ball in the end.

        Returns:
          What is remembered, the step size, and whether to return to the best point, bool `[B]`.
        """
        checkpoint = self._now("checkpoint", taken)
        share, changed = _sparsity(best_offset)
        sparser = checkpoint & (changed < _SPARSER * self.changed)
        radius = epsilon * self._now("radius", taken).astype(epsilon.dtype)
        smaller = jnp.clip(step_size / _SHRINK, _LEAST_STEP * radius, radius)
        pace = dataclasses.replace(
            self,
            share=jnp.where(checkpoint, share, self.share),
            changed=jnp.where(checkpoint, changed, self.changed),
        )
        adapted = jnp.where(sparser, radius, jnp.where(checkpoint, smaller, step_size))
        return pace, adapted, sparser

    def moved(
        self,
        taken: jax.Array,
        images: jax.Array,
        gradient: jax.Array,
        best: jax.Array,
        step_size: jax.Array,
        clean: jax.Array,
        threat: ThreatModel,
    ) -> tuple[SparsePace, jax.Array, jax.Array]:
        """The points after one more turn; also what is remembered, and the step size."""
        leaves = self._now("leaves", taken)
        size = per_example(step_size, images)
        stepped = images + size * threat.steepest(gradient, sparsity=self.share)
        radius = threat.epsilon * self._now("radius", taken + 1).astype(images.dtype)
        ball = dataclasses.replace(threat, epsilon=radius)
        moved = ball.project(where_rows(leaves, best, stepped), clean)
        share, changed = _sparsity(moved - clean)
        pace = dataclasses.replace(
            self,
            share=jnp.where(leaves, share, self.share),
            changed=jnp.where(leaves, changed, self.changed),
        )
        return pace, moved, jnp.where(leaves, radius, step_size)

    def _now(self, table: str, taken: jax.Array) -> jax.Array:
        return jnp.asarray(getattr(course(self.steps, self.multi_epsilon), table))[taken]


def sparse_starts(keys: jax.Array, clean: jax.Array, threat: ThreatModel) -> jax.Array:
    """Normal noise, as wide as the box (as 1 without one), on its way back into the ball.

    What is left of it is sparse: it is the largest draws.
    """
    noise = jax.vmap(lambda key: jax.random.normal(key, clean.shape[1:], clean.dtype))(keys)
    if threat.bounds is not None:
        noise *= per_example(threat.bounds[1] - threat.bounds[0], clean)
    return threat.project(clean + noise, clean)


def _sparsity(offset: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The share of the pixels that the next steps move, and how many pixels an offset changes."""
    flat = flat_rows(offset)
    changed = jnp.sum(flat != 0, axis=1, dtype=offset.dtype)
    return changed / (max(flat.shape[1], 1) * _FEWER), changed
