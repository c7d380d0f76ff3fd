"""How Auto-PGD goes ahead under "linf" and "l2": moves with momentum, and a step that halves."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.threat_model import ThreatModel, per_example

# Of the last move, how much is new; the rest goes on in the direction of the move before.
_MOMENTUM = 0.75
# A window in which a smaller share of the steps increased the loss halves the step.
_ENOUGH_INCREASES = 0.75


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MomentumPace:
    """What is remembered of each row, leaves of a leading axis of the batch.

    `increases` counts the steps since the last checkpoint that increased the loss, `halved` says
    whether the step was halved there, `loss_then` what the best loss was.
    """

    steps: int = dataclasses.field(metadata={"static": True})
    previous: jax.Array
    last_loss: jax.Array
    loss_then: jax.Array
    increases: jax.Array
    halved: jax.Array

    @classmethod
    def at_start(cls, steps: int, images: jax.Array) -> MomentumPace:
        """Of rows that begin at these points."""
        batch_size, dtype = len(images), images.dtype
        none = jnp.zeros(batch_size, dtype)
        return cls(
            steps=steps,
            previous=images,
            last_loss=none,
            loss_then=none,
            increases=jnp.zeros(batch_size, jnp.int32),
            halved=jnp.ones(batch_size, bool),
        )

    def begins(self, taken: jax.Array) -> jax.Array:
        """Whether a row, after so many steps, has no best point yet, bool `[B]`."""
        return taken == 0

    def counts(self, taken: jax.Array) -> jax.Array | bool:
        """Whether the point of a row lies in the ball that was asked for."""
        return True

    def gradients(self, taken: jax.Array) -> jax.Array:
        """How many gradients the steps of a row have used, int32 `[B]`."""
        return taken

    def adapted(
        self,
        taken: jax.Array,
        loss: jax.Array,
        best_loss: jax.Array,
        best_offset: jax.Array,
        step_size: jax.Array,
        epsilon: jax.Array,
    ) -> tuple[MomentumPace, jax.Array, jax.Array]:
        """Takes note of a loss; at a checkpoint perhaps halves the step.

        Args:
          taken: int32 `[B]`, steps so far.
          loss: `[B]`, at the current point.
          best_loss: `[B]`, that one included.
          best_offset: `[B, ...]`, not looked at.
          step_size: `[B]`.
          epsilon: `[B]`, not looked at.

        Returns:
          What is remembered, the step size, and whether to return to the best point, bool `[B]`.
        """
        first = self.begins(taken)
        increases = self.increases + (~first & (loss > self.last_loss)).astype(jnp.int32)
        window = jnp.asarray(windows(self.steps))[taken]
        checkpoint = window > 0
        enough = _ENOUGH_INCREASES * window.astype(jnp.float32)
        few_increases = increases.astype(jnp.float32) <= enough
        no_gain = ~self.halved & (self.loss_then >= best_loss)
        halve = checkpoint & (few_increases | no_gain)
        pace = dataclasses.replace(
            self,
            last_loss=jnp.where(first, 0, loss),
            loss_then=jnp.where(first | checkpoint, best_loss, self.loss_then),
            increases=jnp.where(checkpoint, 0, increases),
            halved=jnp.where(checkpoint, halve, self.halved),
        )
        return pace, jnp.where(halve, step_size / 2, step_size), halve

    def moved(
        self,
        taken: jax.Array,
        images: jax.Array,
        gradient: jax.Array,
        best: jax.Array,
        step_size: jax.Array,
        clean: jax.Array,
        threat: ThreatModel,
    ) -> tuple[MomentumPace, jax.Array, jax.Array]:
        """The points after one more step; also what is remembered, and the step size."""
        size = per_example(step_size, images)
        aim = threat.project(images + size * threat.steepest(gradient), clean)
        share = per_example(jnp.where(taken == 0, 1.0, _MOMENTUM), images)
        mixed = share * (aim - images) + (1 - share) * (images - self.previous)
        moved = threat.project(images + mixed, clean)
        return dataclasses.replace(self, previous=images), moved, step_size


def momentum_starts(keys: jax.Array, clean: jax.Array, threat: ThreatModel) -> jax.Array:
    """Random starts at distance epsilon, before the box cuts them off."""
    move = per_example(threat.epsilon, clean) * threat.random_directions(keys, clean)
    return threat.project(clean + move, clean)


def windows(steps: int) -> np.ndarray:
    """By the number of steps taken: the length of the window that ends there, 0 if none does."""
    length, least, shorter = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    windows = np.zeros(steps + 1, np.int32)
    end = length
    while end <= steps:
        windows[end] = length
        length = max(length - shorter, least)
        end += length
    return windows
