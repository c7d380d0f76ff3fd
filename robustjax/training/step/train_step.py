"""The train step from top to bottom: one pure per-device function, the same for every method.

It prepares the batch, solves the method's inner problem, differentiates the method's outer loss,
perhaps at adversarially perturbed weights, and updates the state; attack and loss on the whole
batch, or part by part (`microbatch`). `robustjax.parallel` maps it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from robustjax.attacks import ThreatModel
from robustjax.methods import Inner, Method, Perturbation
from robustjax.parallel import AXIS
from robustjax.training.step import microbatch
from robustjax.training.step.batch_preparation import PreparedBatch, RawBatch, prepare_batch
from robustjax.training.step.network import BoundNetwork
from robustjax.training.step.outer_loss import OuterLoss
from robustjax.training.step.settings import StepSettings
from robustjax.training.step.weight_perturbation import adversarial_direction
from robustjax.training.train_state import Totals, TrainState

PyTree = Any


def make_train_step(
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The train step of a method, to be mapped over devices under the axis name `parallel.AXIS`.

    Returns:
      (state, batch, scalars, key) -> (state, loss). `batch` is this device's `RawBatch`;
      `scalars` holds "epsilon", "step_size" and the method's own, and where they are used "steps"
      (the attack's budget) and "awp_gamma", all float32; `key` is the run's key, the same at every
      step and on every device. The loss is the weighted mean over the whole batch. Random draws are
      functions of (key, step, position in the global batch), so the result does not depend on how
      many devices share the batch, nor in how many parts; augmentation and mixing are the same in
      all replays of a batch.

    Raises:
      ValueError: parts that the method, or, when the step is traced, the batch cannot be cut into.
    """
    microbatch.require_separable(method, settings.microbatch)
    return _Stages(model, method, optimizer, settings).train_step


@dataclasses.dataclass(frozen=True)
class _Stages:
    """What the step is made of, and its stages.

    "Inner" and "outer" are those of the problem: min over the weights of the loss at the images
    that the maximisation finds (NAP: Chandna and Kutlesa, 2021, Algorithm 1).
    """

    model: nn.Module
    method: Method
    optimizer: optax.GradientTransformation
    settings: StepSettings

    def train_step(
        self, state: TrainState, raw: RawBatch, scalars: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        """See `make_train_step`."""
        method, settings = self.method, self.settings
        microbatch.require_divisor(settings.microbatch, len(raw.labels))
        prepared = prepare_batch(raw, state.step, key, replays=method.replays, settings=settings)

        inner = self._inner_problem(state, prepared, scalars)
        perturbation = self._solve(inner)

        outer = self._outer_loss(state, prepared, perturbation, scalars)
        params = state.params
        if settings.weight_perturbation:
            params = _worst_weights(outer, params, scalars["awp_gamma"])
        slope = outer.differentiate(params, by_images=method.remember is not None)
        memory = perturbation.memory
        if method.remember:
            assert slope.by_images is not None  # It was asked for.
            memory = method.remember(inner, perturbation, slope.by_images)

        loss, gradient = jax.lax.psum((slope.loss, slope.gradient), AXIS)
        statistics = jax.lax.pmean(slope.statistics, AXIS)
        updated = dataclasses.replace(
            self._descend(state, params, gradient, statistics),
            totals=_add_step(state.totals, loss, outer),
            step=state.step + 1,
            memory=_store_rows(state.memory, self._memory_rows(prepared), memory),
        )
        return updated, loss

    def _inner_problem(
        self, state: TrainState, prepared: PreparedBatch, scalars: Mapping[str, jax.Array]
    ) -> Inner:
        """The maximisation at the weights before the step.

        Here alone the attack's network is bound, to the batch norm that the method names.
        """
        network = BoundNetwork(self.model, state.params, state.statistics)
        batch_norm, rows = self.method.attack_batch_norm, self._memory_rows(prepared)
        steps = scalars.get("steps")
        return Inner(
            keys=prepared.attack_keys,
            positions=prepared.positions,
            batch_size=prepared.size,
            logits_fn=network.logits_fn(batch_norm),
            independent_rows=batch_norm == "eval",
            early_stop=self.settings.early_stop,
            batch=prepared.batch,
            threat=ThreatModel(self.settings.norm, scalars["epsilon"]),
            steps=self.settings.attack_steps,
            step_size=scalars["step_size"],
            sparsity=self.settings.sparsity,
            scalars=scalars,
            memory=jax.tree.map(lambda memory: memory[rows], state.memory),
            budget=None if steps is None else steps.astype(jnp.int32),
        )

    def _solve(self, inner: Inner) -> Perturbation:
        """What the method finds, a constant from here on."""
        perturbation = microbatch.map_parts(
            lambda rows: self.method.perturb(inner._replace(**rows)),
            {name: getattr(inner, name) for name in ("keys", "positions", "batch", "memory")},
            self.settings.microbatch,
        )
        return jax.lax.stop_gradient(perturbation)

    def _outer_loss(
        self,
        state: TrainState,
        prepared: PreparedBatch,
        perturbation: Perturbation,
        scalars: Mapping[str, jax.Array],
    ) -> OuterLoss:
        """The loss to be minimised, as a function of the weights."""
        return OuterLoss(
            model=self.model,
            method=self.method,
            settings=self.settings,
            statistics=state.statistics,
            batch=prepared.batch,
            total_weight=jax.lax.psum(jnp.sum(prepared.batch.weight), AXIS),
            perturbation=perturbation,
            dropout_key=prepared.dropout_key,
            scalars=scalars,
        )

    def _descend(
        self, state: TrainState, params: PyTree, gradient: PyTree, statistics: PyTree
    ) -> TrainState:
        """The optimiser's step, by the gradient at `params`, and the moving average after it."""
        # The optimiser sees the perturbed weights, whose decay is theirs; the step is made from the
        # unperturbed ones.
        updates, optimizer_state = self.optimizer.update(gradient, state.optimizer_state, params)
        params = optax.apply_updates(state.params, updates)
        average = state.average
        if average:
            current = {"params": params, "statistics": statistics}
            average = optax.incremental_update(current, average, 1.0 - self.settings.ema_decay)
        return dataclasses.replace(
            state,
            params=params,
            statistics=statistics,
            optimizer_state=optimizer_state,
            average=average,
        )

    def _memory_rows(self, prepared: PreparedBatch) -> jax.Array:
        """Which rows of the memory belong to this device's share of the batch."""
        by_example = self.method.memory_of == "example"
        return prepared.batch.index if by_example else prepared.positions


def _worst_weights(outer: OuterLoss, params: PyTree, gamma: jax.Array) -> PyTree:
    """The weights, moved by γ in the direction that raises the loss fastest (AWP)."""
    ascent = jax.lax.psum(outer.differentiate(params).gradient, AXIS)
    direction = adversarial_direction(params, ascent)
    return jax.tree.map(lambda weight, shift: weight + gamma * shift, params, direction)


def _add_step(totals: Totals, loss: jax.Array, outer: OuterLoss) -> Totals:
    """The sums over the epoch with those of one more step."""
    passes = outer.perturbation.backward_passes
    return Totals(
        weighted_loss=totals.weighted_loss + loss * outer.total_weight,
        weight=totals.weight + outer.total_weight,
        backward_passes=totals.backward_passes
        + jax.lax.psum(jnp.sum(passes.astype(jnp.float32)), AXIS),
        examples=totals.examples + len(passes) * jax.lax.axis_size(AXIS),
    )


def _store_rows(memory: PyTree, index: jax.Array, rows: PyTree) -> PyTree:
    """Writes every device's rows back into the replicated memory."""
    if not jax.tree.leaves(memory):
        return memory
    index, rows = jax.lax.all_gather((index, rows), AXIS, tiled=True)
    return jax.tree.map(lambda whole, part: whole.at[index].set(part), memory, rows)
