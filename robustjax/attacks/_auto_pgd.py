"""What Auto-PGD computes: moves with momentum, and a step size that halves where it must."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.engine.keys import fold_in_each, per_example_keys
from robustjax.attacks.engine.rows import classified_as, misclassified, where_rows
from robustjax.attacks.targets import RankedInputs
from robustjax.attacks.threat_model import ThreatModel, per_example

ANY_WRONG, RANKED, CHOSEN = "any wrong class", "runners-up", "chosen classes"
"""What Auto-PGD aims at: with `RANKED` another wrong class is as good, with `CHOSEN` it is not."""

# Of the last move, how much is new; the rest goes on in the direction of the move before.
_MOMENTUM = 0.75
# A window in which a smaller share of the steps increased the loss halves the step.
_ENOUGH_INCREASES = 0.75


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `best` is the point of the highest loss with that loss and the gradient there; `increases`
    counts the steps since the last checkpoint that increased the loss, `halved` says whether the
    step was halved there, `loss_then` what the best loss was.
    """

    images: jax.Array
    previous: jax.Array
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
    last_loss: jax.Array
    loss_then: jax.Array
    increases: jax.Array
    halved: jax.Array
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
    """

    steps: int
    aim: str = ANY_WRONG
    samples: int = 0

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
        images = where_rows(success, clean, starts(keys, clean, threat))
        target: Any = inputs.labels
        if self.aim == RANKED:
            target = inputs.target(number)
        elif self.aim == CHOSEN:
            target = (inputs.labels, inputs.chosen)
        none = jnp.zeros(batch_size, dtype)
        return _Rows(
            images=images,
            previous=images,
            clean=clean,
            labels=inputs.labels,
            target=target,
            threat=threat,
            keys=keys,
            step_size=2 * threat.epsilon,
            taken=jnp.zeros(batch_size, jnp.int32),
            best=images,
            best_loss=none,
            best_gradient=jnp.zeros_like(images),
            last_loss=none,
            loss_then=none,
            increases=jnp.zeros(batch_size, jnp.int32),
            halved=jnp.ones(batch_size, bool),
            success=success,
            active=~success,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        logits, loss, gradient = self._look(model, rows)
        rows, gradient = self._adapted(
            self._judged(rows, logits), self._ranked(loss.astype(rows.images.dtype)), gradient
        )
        step_size = per_example(rows.step_size, rows.images)
        aim = rows.threat.project(
            rows.images + step_size * rows.threat.steepest(gradient), rows.clean
        )
        share = per_example(jnp.where(rows.taken == 0, 1.0, _MOMENTUM), rows.images)
        mixed = share * (aim - rows.images) + (1 - share) * (rows.images - rows.previous)
        moved = rows.threat.project(rows.images + mixed, rows.clean)
        return dataclasses.replace(
            rows,
            images=where_rows(rows.active, moved, rows.images),
            previous=rows.images,
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
            backward_passes=rows.taken,
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
        success = rows.success | (rows.active & self._succeeded(logits, rows))
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
        """Takes note of a point; at a checkpoint perhaps halves the step and goes back."""
        first = rows.taken == 0
        better = first | (loss > rows.best_loss)
        best = where_rows(better, rows.images, rows.best)
        best_loss = jnp.where(better, loss, rows.best_loss)
        best_gradient = where_rows(better, gradient, rows.best_gradient)
        increases = rows.increases + (~first & (loss > rows.last_loss)).astype(jnp.int32)

        window = jnp.asarray(windows(self.steps))[rows.taken]
        checkpoint = window > 0
        enough = _ENOUGH_INCREASES * window.astype(jnp.float32)
        few_increases = increases.astype(jnp.float32) <= enough
        no_gain = ~rows.halved & (rows.loss_then >= best_loss)
        halve = checkpoint & (few_increases | no_gain)
        back = halve & rows.active
        rows = dataclasses.replace(
            rows,
            images=where_rows(back, best, rows.images),
            step_size=jnp.where(halve, rows.step_size / 2, rows.step_size),
            best=best,
            best_loss=best_loss,
            best_gradient=best_gradient,
            last_loss=jnp.where(first, 0, loss),
            loss_then=jnp.where(first | checkpoint, best_loss, rows.loss_then),
            increases=jnp.where(checkpoint, 0, increases),
            halved=jnp.where(checkpoint, halve, rows.halved),
        )
        return rows, where_rows(back, best_gradient, gradient)


def starts(keys: jax.Array, clean: jax.Array, threat: ThreatModel) -> jax.Array:
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
