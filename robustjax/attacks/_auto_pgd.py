"""What Auto-PGD computes: looks, moves, and the best point of each example.

How it moves and when it changes its step is the pace, which the norm decides.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks._momentum_pace import MomentumPace, momentum_starts
from robustjax.attacks._sparse_pace import SparsePace, course, sparse_starts
from robustjax.attacks.engine.keys import fold_in_each, per_example_keys
from robustjax.attacks.engine.rows import classified_as, misclassified, where_rows
from robustjax.attacks.targets import RankedInputs
from robustjax.attacks.threat_model import ThreatModel

ANY_WRONG, RANKED, CHOSEN = "any wrong class", "runners-up", "chosen classes"
"""What Auto-PGD aims at: with `RANKED` another wrong class is as good, with `CHOSEN` it is not."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `best` is the point of the highest loss with that loss and the gradient there.
    """

    images: jax.Array
    clean: jax.Array
    labels: jax.Array
    target: Any
    threat: ThreatModel
    keys: jax.Array
    step_size: jax.Array
    taken: jax.Array
    best: jax.Array
    best_loss: jax.Array
    best_gradient: jax.Array
    pace: MomentumPace | SparsePace
    success: jax.Array
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """The best of the restarts, or targets, so far."""

    images: jax.Array
    success: jax.Array
    loss: jax.Array
    backward_passes: jax.Array


@dataclasses.dataclass(frozen=True)
class AutoPGD:
    """The parts that the engine repeats.

    A step looks at the current point and then moves on. The point after the last move is looked at
    by `result`, which needs no gradient there.

    Attributes:
      steps: along a gradient.
      aim: `ANY_WRONG`, `RANKED` or `CHOSEN`.
      samples: draws of a random network; 0: it is none.
      multi_epsilon: under "l1", whether the first steps are taken in larger balls.
    """

    steps: int
    aim: str = ANY_WRONG
    samples: int = 0
    multi_epsilon: bool = False

    def turns(self, norm: str) -> int:
        """How often the engine has to call `step`."""
        return course(self.steps, self.multi_epsilon).turns if norm == "l1" else self.steps

    def nothing_kept(self, inputs: RankedInputs) -> Kept:
        batch = inputs.images.shape[:1]
        return Kept(
            images=inputs.images,
            success=~inputs.attacked,
            loss=jnp.full(batch, -jnp.inf, inputs.images.dtype),
            backward_passes=jnp.zeros(batch, jnp.int32),
        )

    def start(
        self, inputs: RankedInputs, kept: Kept | None, restart: jax.Array | np.int32
    ) -> _Rows:
        clean = inputs.images
        batch_size, dtype = len(clean), clean.dtype
        threat = inputs.threat.for_batch(batch_size, dtype)
        number = inputs.first + restart
        keys = fold_in_each(per_example_keys(inputs.key, batch_size), number)
        success = ~inputs.attacked if kept is None or self.samples else kept.success
        begun, pace, step_size = self._begun(keys, clean, threat)
        images = where_rows(success, clean, begun)
        target: Any = inputs.labels
        if self.aim == RANKED:
            target = inputs.target(number)
        elif self.aim == CHOSEN:
            target = (inputs.labels, inputs.chosen)
        none = jnp.zeros(batch_size, dtype)
        return _Rows(
            images=images,
            clean=clean,
            labels=inputs.labels,
            target=target,
            threat=threat,
            keys=keys,
            step_size=step_size,
            taken=jnp.zeros(batch_size, jnp.int32),
            best=images,
            best_loss=none,
            best_gradient=jnp.zeros_like(images),
            pace=pace,
            success=success,
            active=~success,
        )

    def _begun(
        self, keys: jax.Array, clean: jax.Array, threat: ThreatModel
    ) -> tuple[jax.Array, MomentumPace | SparsePace, jax.Array]:
        """The points at the start, the pace from there on, and the first step's size."""
        if threat.norm != "l1":
            images = momentum_starts(keys, clean, threat)
            return images, MomentumPace.at_start(self.steps, images), 2 * threat.epsilon
        larger = course(self.steps, self.multi_epsilon).radius[0]
        first = dataclasses.replace(threat, epsilon=threat.epsilon * larger)
        images = sparse_starts(keys, clean, first)
        pace = SparsePace.at_start(self.steps, self.multi_epsilon, images, clean)
        return images, pace, first.epsilon

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        logits, loss, gradient = self._look(model, rows)
        rows, gradient = self._adapted(
            self._judged(rows, logits), self._ranked(loss.astype(rows.images.dtype)), gradient
        )
        pace, moved, step_size = rows.pace.moved(
            rows.taken, rows.images, gradient, rows.best, rows.step_size, rows.clean, rows.threat
        )
        return dataclasses.replace(
            rows,
            images=where_rows(rows.active, moved, rows.images),
            pace=pace,
            step_size=step_size,
            taken=rows.taken + rows.active.astype(rows.taken.dtype),
        )

    def result(self, model: Callable[..., Any], rows: _Rows, kept: Kept | None) -> Kept:
        logits, loss, _ = self._look(model, rows)
        rows = self._judged(rows, logits)
        loss = self._ranked(loss)
        last_is_best = loss > rows.best_loss
        strongest = where_rows(last_is_best, rows.images, rows.best)
        success = rows.success
        if self.samples:
            rows = dataclasses.replace(rows, images=strongest)
            logits, _, _ = self._look(model, rows, fresh=1)
            success = self._succeeded(logits, rows)
        found = Kept(
            images=where_rows(success, rows.images, strongest),
            success=success,
            loss=jnp.where(last_is_best, loss, rows.best_loss).astype(rows.best_loss.dtype),
            backward_passes=rows.pace.gradients(rows.taken),
        )
        if kept is None:
            return found
        better = found.loss > kept.loss
        if not self.samples:
            better = ~kept.success & (found.success | better)
        chosen = jax.tree.map(functools.partial(where_rows, better), found, kept)
        return dataclasses.replace(
            chosen, backward_passes=kept.backward_passes + found.backward_passes
        )

    def _succeeded(self, logits: jax.Array, rows: _Rows) -> jax.Array:
        """Whether rows are, at these logits, what the attack wants them to be."""
        if self.aim == CHOSEN:
            return classified_as(logits, rows.target[1])
        return misclassified(logits, rows.labels)

    def _ranked(self, loss: jax.Array) -> jax.Array:
        """Losses that compare: without a number an image is never right, nor ever the target."""
        return jnp.where(jnp.isnan(loss), -jnp.inf if self.aim == CHOSEN else jnp.inf, loss)

    def _judged(self, rows: _Rows, logits: jax.Array) -> _Rows:
        """Stops the rows that have succeeded where they are; one draw of a random network, none."""
        if self.samples:
            return rows
        found = rows.active & rows.pace.counts(rows.taken) & self._succeeded(logits, rows)
        success = rows.success | found
        return dataclasses.replace(rows, success=success, active=~success)

    def _look(
        self, model: Callable[..., Any], rows: _Rows, fresh: int = 0
    ) -> tuple[jax.Array, ...]:
        """Logits, losses and gradient at the current points; `fresh` numbers a step's draws."""
        if not self.samples:
            return model(rows.images, rows.target)
        draw = jax.random.fold_in(rows.keys[0], jnp.max(rows.taken) + fresh)
        return model(rows.images, rows.target, draw)

    def _adapted(
        self, rows: _Rows, loss: jax.Array, gradient: jax.Array
    ) -> tuple[_Rows, jax.Array]:
        """Takes note of a point, and perhaps goes back to the best one."""
        better = rows.pace.begins(rows.taken) | (loss > rows.best_loss)
        best = where_rows(better, rows.images, rows.best)
        best_loss = jnp.where(better, loss, rows.best_loss)
        best_gradient = where_rows(better, gradient, rows.best_gradient)
        pace, step_size, back = rows.pace.adapted(
            rows.taken, loss, best_loss, best - rows.clean, rows.step_size, rows.threat.epsilon
        )
        back &= rows.active
        rows = dataclasses.replace(
            rows,
            images=where_rows(back, best, rows.images),
            step_size=step_size,
            best=best,
            best_loss=best_loss,
            best_gradient=best_gradient,
            pace=pace,
        )
        return rows, where_rows(back, best_gradient, gradient)
