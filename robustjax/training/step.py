"""The train step: one pure per-device function, the same for every method.

It augments the batch, runs the method's inner maximisation, differentiates the method's outer loss,
sums the gradient over the devices and updates the state. `robustjax.parallel` maps it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from robustjax import data
from robustjax.attacks import ThreatModel
from robustjax.methods import Batch, Inner, Method, Outer
from robustjax.parallel import AXIS
from robustjax.training.network import BoundNetwork
from robustjax.training.state import Totals, TrainState

PyTree = Any


class RawBatch(NamedTuple):
    """What the host sends to one device: uint8 images [B, H, W, C], labels, index, weight [B]."""

    images: jax.Array
    labels: jax.Array
    index: jax.Array
    weight: jax.Array


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """The choices of the train step that are fixed when it is compiled.

    Attributes:
      norm: the norm of the threat model.
      attack_steps: the inner maximisation's largest number of steps.
      augmentation: what happens to the images on the device before anything else.
      batch_norm: "global" averages the statistics of a forward pass over all devices, "per_device"
        normalises each device's share by itself and averages the running statistics after the step.
      ema_decay: of the moving average of the weights; 0 keeps none.
    """

    norm: str
    attack_steps: int
    augmentation: data.Augmentation
    batch_norm: str = "global"
    ema_decay: float = 0.0


def make_train_step(
    model: nn.Module,
    method: Method,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
) -> Callable[..., tuple[TrainState, jax.Array]]:
    """The train step of a method, to be mapped over devices under the axis name `parallel.AXIS`.

    Returns:
      (state, batch, scalars, key) -> (state, loss). `batch` is this device's `RawBatch`;
      `scalars` holds "epsilon", "step_size" and the method's own, all float32; `key` is the run's
      key, the same at every step and on every device. The loss is the weighted mean over the
      whole batch. Random draws are functions of (key, step, position in the global batch), so the
      result does not depend on how many devices share the batch.
    """
    augmentation = dataclasses.asdict(settings.augmentation)

    def train_step(
        state: TrainState, raw: RawBatch, scalars: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        key = jax.random.fold_in(key, state.step)
        example_keys = _keys_by_position(key, raw.labels.shape[0])
        augment_keys, attack_keys = example_keys[:, 0], example_keys[:, 1]
        dropout_key = jax.random.fold_in(key, _DROPOUT)
        if settings.batch_norm == "per_device":
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(AXIS))

        images = data.augment(augment_keys, data.to_float(raw.images), **augmentation)
        batch = Batch(images, raw.labels, raw.index, raw.weight)
        rows = jax.tree.map(lambda memory: memory[batch.index], state.memory)
        inner = Inner(
            keys=attack_keys,
            network=BoundNetwork(model, state.params, state.statistics),
            batch=batch,
            threat=ThreatModel(settings.norm, scalars["epsilon"]),
            steps=settings.attack_steps,
            step_size=scalars["step_size"],
            scalars=scalars,
            memory=rows,
        )
        perturbation = method.perturb(inner)
        perturbation = jax.lax.stop_gradient(perturbation)
        total_weight = jax.lax.psum(jnp.sum(batch.weight), AXIS)

        def weighted_mean_loss(params: PyTree) -> tuple[jax.Array, PyTree]:
            network = BoundNetwork(model, params, state.statistics)
            outer = Outer(dropout_key, network, batch, perturbation, scalars)
            objective = method.outer(outer)
            return jnp.sum(batch.weight * objective.loss) / total_weight, objective.statistics

        gradient_fn = jax.value_and_grad(weighted_mean_loss, has_aux=True)
        (loss, statistics), gradient = gradient_fn(state.params)
        loss, gradient = jax.lax.psum((loss, gradient), AXIS)
        statistics = jax.lax.pmean(statistics, AXIS)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, updates)

        average = state.average
        if average:
            current = {"params": params, "statistics": statistics}
            average = optax.incremental_update(current, average, 1.0 - settings.ema_decay)
        totals = Totals(
            weighted_loss=state.totals.weighted_loss + loss * total_weight,
            weight=state.totals.weight + total_weight,
            backward_passes=state.totals.backward_passes
            + jax.lax.psum(jnp.sum(perturbation.backward_passes.astype(jnp.float32)), AXIS),
            examples=state.totals.examples + raw.labels.shape[0] * jax.lax.axis_size(AXIS),
        )
        state = state.replace(
            step=state.step + 1,
            params=params,
            statistics=statistics,
            optimizer_state=optimizer_state,
            average=average,
            memory=_store_rows(state.memory, batch.index, perturbation.memory),
            totals=totals,
        )
        return state, loss

    return train_step


_DROPOUT = 2**31 - 1
"""Folded into the step's key for dropout: no position in a batch is this large."""


def _keys_by_position(key: jax.Array, local_batch: int) -> jax.Array:
    """Two keys [local_batch, 2] for each example of this device, by its global position."""
    first = jax.lax.axis_index(AXIS) * local_batch
    positions = first + jnp.arange(local_batch)
    return jax.vmap(lambda position: jax.random.split(jax.random.fold_in(key, position)))(positions)


def _store_rows(memory: PyTree, index: jax.Array, rows: PyTree) -> PyTree:
    """Writes every device's rows back into the replicated memory."""
    if not jax.tree.leaves(memory):
        return memory
    index, rows = jax.lax.all_gather((index, rows), AXIS, tiled=True)
    return jax.tree.map(lambda whole, part: whole.at[index].set(part), memory, rows)
