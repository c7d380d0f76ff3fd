"""What `pgd` computes: a start, a pure step, and what is kept of the restarts."""

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
from robustjax.attacks.stopping import Point
from robustjax.attacks.threat_model import ThreatModel, per_example

# The standard deviation of the start noise in TRADES's and MART's official code.
GAUSSIAN_START = 0.001

# Folded into an example's key for the noise of its steps.
_NOISE = 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inputs:
    """The arguments of an attack; every leaf has a leading axis of the batch, or is a scalar.

    The rule's class is named because structures of different dataclasses may compare equal, see
    `stopping`, and a rule may be the user's own.
    """

    start_name: str = dataclasses.field(metadata={"static": True})
    rule_class: type = dataclasses.field(metadata={"static": True})
    key: jax.Array
    images: jax.Array
    start_images: jax.Array | None
    labels: jax.Array
    target: Any
    threat: ThreatModel
    step_size: jax.Array
    budget: jax.Array
    noise: jax.Array | None
    sparsity: jax.Array
    rule: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Noise:
    """The noise of the steps: its standard deviation, and the key that an example draws from."""

    key: jax.Array
    deviation: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `legal` says whether the current images are known to be inside the ball and the box. All but
    some starts are.
    """

    rule_class: type = dataclasses.field(metadata={"static": True})
    images: jax.Array
    previous: jax.Array
    clean: jax.Array
    labels: jax.Array
    target: Any
    threat: ThreatModel
    step_size: jax.Array
    budget: jax.Array
    taken: jax.Array
    legal: jax.Array
    noise: _Noise | None
    sparsity: jax.Array
    rule: Any
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Kept:
    """The best of the restarts so far."""

    images: jax.Array
    success: jax.Array
    loss: jax.Array
    backward_passes: jax.Array


@dataclasses.dataclass(frozen=True)
class GradientAscent:
    """The parts that the engine repeats.

    Attributes:
      stop_at_success: whether an example stops at its first successful iterate.
      targeted: whether success is that the target is predicted.
    """

    stop_at_success: bool
    targeted: bool

    def nothing_kept(self, inputs: Inputs) -> _Kept:
        batch = inputs.images.shape[:1]
        return _Kept(
            images=inputs.images,
            success=jnp.zeros(batch, bool),
            loss=jnp.full(batch, -jnp.inf, inputs.images.dtype),
            backward_passes=jnp.zeros(batch, jnp.int32),
        )

    def start(self, inputs: Inputs, kept: _Kept | None, restart: jax.Array | np.int32) -> _Rows:
        clean = inputs.images
        batch_size, dtype = len(clean), clean.dtype
        threat = inputs.threat.for_batch(batch_size, dtype)
        keys = fold_in_each(per_example_keys(inputs.key, batch_size), restart)
        images = _start_images(inputs, threat, keys)
        budget = jnp.broadcast_to(inputs.budget, (batch_size,))
        # Rows without a step to take are looked at only by a rule that looks at the end.
        active = (budget > 0) | _asks_after_last(inputs.rule)
        if kept is not None:
            active &= ~kept.success
        return _Rows(
            rule_class=inputs.rule_class,
            images=images,
            previous=images,
            clean=clean,
            labels=inputs.labels,
            target=inputs.target,
            threat=threat,
            step_size=jnp.broadcast_to(inputs.step_size, (batch_size,)),
            budget=budget,
            taken=jnp.zeros(batch_size, jnp.int32),
            legal=_legal_starts(inputs.start_name, images, threat, clean),
            noise=_start_noise(inputs.noise, keys),
            sparsity=jnp.broadcast_to(inputs.sparsity, (batch_size,)),
            rule=None if inputs.rule is None else inputs.rule.start(batch_size),
            active=active,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        logits, loss, gradient = model(rows.images, rows.target)
        rows = self._ask(rows, logits, loss, gradient)
        moving = rows.active & (rows.taken < rows.budget)
        step_size = per_example(rows.step_size, rows.images)
        direction = rows.threat.steepest(gradient, rows.images, rows.sparsity)
        stepped = rows.images + step_size * direction
        if rows.noise is not None:
            stepped += _step_noise(rows.noise, rows.taken, rows.images)
        moved = rows.threat.project(stepped, rows.clean)
        taken = rows.taken + moving.astype(rows.taken.dtype)
        # A row at the end of its budget stays active only if its rule wants one more look.
        done = (taken >= rows.budget) if not _asks_after_last(rows.rule) else ~rows.active
        return dataclasses.replace(
            rows,
            images=where_rows(moving, moved, rows.images),
            previous=rows.images,
            taken=taken,
            legal=rows.legal | moving,
            active=moving & ~done,
        )

    def _ask(self, rows: _Rows, logits: jax.Array, loss: jax.Array, gradient: jax.Array) -> _Rows:
        """Lets the rule (and success "any") stop rows at the point that was just evaluated."""
        succeeded = self._succeeded(logits, rows)
        if self.stop_at_success:
            rows = dataclasses.replace(rows, active=rows.active & ~(succeeded & rows.legal))
        if rows.rule is None:
            return rows
        point = Point(
            images=rows.images,
            clean=rows.clean,
            labels=rows.labels,
            logits=logits,
            misclassified=succeeded,
            loss=loss,
            gradient=gradient,
            taken=rows.taken,
            threat=rows.threat,
        )
        decision = rows.rule.check(point)
        return dataclasses.replace(
            rows,
            images=where_rows(
                rows.active & decision.stop & decision.revert, rows.previous, rows.images
            ),
            rule=decision.rule,
            active=rows.active & ~decision.stop,
        )

    def _succeeded(self, logits: jax.Array, rows: _Rows) -> jax.Array:
        """Whether the target is reached, or, without one, the label left, bool `[B]`."""
        if self.targeted:
            return classified_as(logits, rows.target)
        return misclassified(logits, rows.labels)

    def result(self, model: Callable[..., Any], rows: _Rows, kept: _Kept | None) -> _Kept:
        if _asks_after_last(rows.rule):
            rows = self._ask(rows, *model(rows.images, rows.target))
        images = rows.threat.project(rows.images, rows.clean)
        logits, loss, _ = model(images, rows.target)
        succeeded = self._succeeded(logits, rows)
        found = _Kept(images, succeeded, loss.astype(images.dtype), rows.taken)
        if kept is None:
            return found
        better = ~kept.success & (
            found.success
            | (found.loss > kept.loss)
            | jnp.isnan(kept.loss)
            | jnp.isneginf(kept.loss)
        )
        chosen = jax.tree.map(functools.partial(where_rows, better), found, kept)
        return dataclasses.replace(
            chosen, backward_passes=kept.backward_passes + found.backward_passes
        )


def _start_images(inputs: Inputs, threat: ThreatModel, keys: jax.Array) -> jax.Array:
    clean = inputs.images
    if inputs.start_images is not None:
        return inputs.start_images
    if inputs.start_name == "uniform":
        return threat.random_start(keys, clean)
    if inputs.start_name == "sign":
        return threat.sign_start(keys, clean)
    if inputs.start_name == "gaussian":
        shape, dtype = clean.shape[1:], clean.dtype
        noise = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        return clean + GAUSSIAN_START * noise
    return clean


def _start_noise(deviation: jax.Array | None, keys: jax.Array) -> _Noise | None:
    if deviation is None:
        return None
    return _Noise(fold_in_each(keys, _NOISE), jnp.broadcast_to(deviation, keys.shape))


def _step_noise(noise: _Noise, taken: jax.Array, images: jax.Array) -> jax.Array:
    shape, dtype = images.shape[1:], images.dtype
    keys = jax.vmap(jax.random.fold_in)(noise.key, taken)
    draws = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
    return per_example(noise.deviation, images) * draws


def _legal_starts(
    start_name: str, images: jax.Array, threat: ThreatModel, clean: jax.Array
) -> jax.Array:
    if start_name == "uniform":
        return jnp.ones(len(images), bool)
    unmoved = threat.project(images, clean) == images
    return unmoved.reshape(len(images), -1).all(axis=1)


def _asks_after_last(rule: Any) -> bool:
    return rule is not None and rule.after_last_step
