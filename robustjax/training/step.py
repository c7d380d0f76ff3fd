"""The train step: one pure per-device function, the same for every method.

It augments (and perhaps mixes) the batch, runs the method's inner maximisation, differentiates the
method's outer loss, perhaps at adversarially perturbed weights, sums the gradient over the devices
and updates the state; attack and loss on the whole batch, or part by part
(`robustjax.training.microbatch`). `robustjax.parallel` maps it.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from robustjax import data, losses
from robustjax.attacks import ThreatModel
from robustjax.methods import Batch, Inner, Method, Outer, Perturbation
from robustjax.models.dropout import Places
from robustjax.parallel import AXIS
from robustjax.training import microbatch
from robustjax.training.network import BoundNetwork
from robustjax.training.train_state import Totals, TrainState
from robustjax.training.weight_perturbation import adversarial_direction

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
      mixing: whether images and labels are mixed with those of another example.
      label_smoothing: share of each label that goes to the other classes.
      num_classes: of the labels; needed where they are mixed or smoothed.
      weight_perturbation: whether the gradient is taken at adversarially perturbed weights (AWP).
      microbatch: examples of a device that are attacked and differentiated together; 0: all. See
        `robustjax.training.microbatch` for what does not depend on it, and what batch norm does.
      remat: whether the gradient computes the activations of a whole training pass again; for
        networks without residual blocks, the others have an option of their own.
      early_stop: see `methods.Inner`.
    """

    norm: str
    attack_steps: int
    augmentation: data.Augmentation
    batch_norm: str = "global"
    ema_decay: float = 0.0
    mixing: data.Mixing = dataclasses.field(default_factory=data.Mixing)
    label_smoothing: float = 0.0
    num_classes: int = 0
    weight_perturbation: bool = False
    microbatch: int = 0
    remat: bool = False
    early_stop: str = ""

    @property
    def soft_labels(self) -> bool:
        """Whether the methods get distributions for labels."""
        return self.mixing.kind != "none" or self.label_smoothing > 0


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
    augmentation = dataclasses.asdict(settings.augmentation)

    def train_step(
        state: TrainState, raw: RawBatch, scalars: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        # All replays of a batch see it augmented and mixed alike; all else is drawn at every step.
        batch_key = jax.random.fold_in(key, state.step // method.replays)
        key = jax.random.fold_in(key, state.step)
        local_batch = raw.labels.shape[0]
        microbatch.require_divisor(settings.microbatch, local_batch)
        batch_size = local_batch * jax.lax.axis_size(AXIS)
        positions = jax.lax.axis_index(AXIS) * local_batch + jnp.arange(local_batch)
        augment_keys = _keys_by_position(batch_key, positions)[:, 0]
        attack_keys = _keys_by_position(key, positions)[:, 1]
        dropout_key = jax.random.fold_in(key, _DROPOUT)
        if settings.batch_norm == "per_device":
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(AXIS))

        images = data.augment(augment_keys, data.to_float(raw.images), **augmentation)
        labels = raw.labels
        if settings.soft_labels:
            labels = losses.smooth_labels(labels, settings.num_classes, settings.label_smoothing)
        if settings.mixing.kind != "none":
            partners = data.partners(jax.random.fold_in(batch_key, _MIXING), batch_size)[positions]
            every = jax.lax.all_gather((images, labels), AXIS, tiled=True)
            other_images, other_labels = jax.tree.map(lambda whole: whole[partners], every)
            mixing_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(augment_keys)
            images, labels = data.mix(
                mixing_keys, images, labels, other_images, other_labels, settings.mixing
            )
        batch = Batch(images, labels, raw.index, raw.weight)
        row_index = batch.index if method.memory_of == "example" else positions
        steps = scalars.get("steps")
        inner = Inner(
            keys=attack_keys,
            positions=positions,
            batch_size=batch_size,
            network=BoundNetwork(model, state.params, state.statistics),
            batch=batch,
            threat=ThreatModel(settings.norm, scalars["epsilon"]),
            steps=settings.attack_steps,
            step_size=scalars["step_size"],
            scalars=scalars,
            memory=jax.tree.map(lambda memory: memory[row_index], state.memory),
            budget=None if steps is None else steps.astype(jnp.int32),
            independent_rows=method.attack_batch_norm == "eval",
            early_stop=settings.early_stop,
        )
        perturbation = microbatch.map_parts(
            lambda rows: method.perturb(inner._replace(**rows)),
            {name: getattr(inner, name) for name in ("keys", "positions", "batch", "memory")},
            settings.microbatch,
        )
        perturbation = jax.lax.stop_gradient(perturbation)
        total_weight = jax.lax.psum(jnp.sum(batch.weight), AXIS)

        def weighted_mean_loss(
            params: PyTree, images: jax.Array, part: _Part, statistics: PyTree
        ) -> tuple[jax.Array, PyTree]:
            """The part's share of the loss, and the statistics after it."""
            places = Places(part.places, local_batch) if settings.microbatch else None
            network = BoundNetwork(model, params, statistics, settings.remat, places)
            seen = part.perturbation._replace(images=images)
            objective = method.outer(Outer(dropout_key, network, part.batch, seen, scalars))
            return jnp.sum(part.batch.weight * objective.loss) / total_weight, objective.statistics

        def differentiate(
            params: PyTree, by_images: bool = False
        ) -> tuple[PyTree, PyTree, tuple[jax.Array, PyTree]]:
            """The gradient by the images if wanted, the statistics, loss and its gradient."""
            variables = (0, 1) if by_images else (0,)
            gradient_fn = jax.value_and_grad(weighted_mean_loss, variables, has_aux=True)

            def of_part(part: _Part, statistics: PyTree) -> tuple[PyTree, PyTree, PyTree]:
                (loss, statistics), (gradient, *image_gradient) = gradient_fn(
                    params, part.perturbation.images, part, statistics
                )
                return image_gradient, statistics, (loss, gradient)

            rows = _Part(batch, perturbation, jnp.arange(local_batch))
            zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
            return microbatch.sum_parts(of_part, rows, state.statistics, zero, settings.microbatch)

        params = state.params
        if settings.weight_perturbation:
            _, _, (_, ascent) = differentiate(params)
            direction = adversarial_direction(params, jax.lax.psum(ascent, AXIS))
            params = jax.tree.map(
                lambda weight, shift: weight + scalars["awp_gamma"] * shift, params, direction
            )
        by_images = method.remember is not None
        image_gradient, statistics, (loss, gradient) = differentiate(params, by_images)
        memory = perturbation.memory
        if method.remember:
            memory = method.remember(inner, perturbation, *image_gradient)
        loss, gradient = jax.lax.psum((loss, gradient), AXIS)
        statistics = jax.lax.pmean(statistics, AXIS)
        # The optimiser sees the perturbed weights, whose decay is theirs; the step is made from the
        # unperturbed ones.
        updates, optimizer_state = optimizer.update(gradient, state.optimizer_state, params)
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
            examples=state.totals.examples + batch_size,
        )
        state = state.replace(
            step=state.step + 1,
            params=params,
            statistics=statistics,
            optimizer_state=optimizer_state,
            average=average,
            memory=_store_rows(state.memory, row_index, memory),
            totals=totals,
        )
        return state, loss

    return train_step


class _Part(NamedTuple):
    """Rows of the batch, what was found for them, and their places on the device [N]."""

    batch: Batch
    perturbation: Perturbation
    places: jax.Array


_DROPOUT, _MIXING = 2**31 - 1, 2**31 - 2
"""Folded into the step's key for dropout and mixing: no position in a batch is this large."""


def _keys_by_position(key: jax.Array, positions: jax.Array) -> jax.Array:
    """Two keys [B, 2] for each example of this device, by its position in the global batch."""
    return jax.vmap(lambda position: jax.random.split(jax.random.fold_in(key, position)))(positions)


def _store_rows(memory: PyTree, index: jax.Array, rows: PyTree) -> PyTree:
    """Writes every device's rows back into the replicated memory."""
    if not jax.tree.leaves(memory):
        return memory
    index, rows = jax.lax.all_gather((index, rows), AXIS, tiled=True)
    return jax.tree.map(lambda whole, part: whole.at[index].set(part), memory, rows)
