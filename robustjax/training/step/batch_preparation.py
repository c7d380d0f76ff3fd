"""From what the host sends to what attack and loss see: augmented, mixed, and with its keys."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import data, losses
from robustjax.methods import Batch
from robustjax.parallel import AXIS
from robustjax.training.step.settings import StepSettings


class RawBatch(NamedTuple):
    """What the host sends to one device: uint8 images [B, H, W, C], labels, index, weight [B]."""

    images: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray
    index: jax.Array | np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    weight: jax.Array | np.ndarray


class PreparedBatch(NamedTuple):
    """One device's share of a batch, ready for attack and loss.

    Attributes:
      batch: its examples, augmented and mixed.
      size: examples over all devices.
      positions: int32 [B], the place of each example in the batch over all devices.
      attack_keys: one random key per example, [B].
      dropout_key: the same on every device, unless each normalises by itself.
    """

    batch: Batch
    size: int
    positions: jax.Array
    attack_keys: jax.Array
    dropout_key: jax.Array


def prepare_batch(
    raw: RawBatch, step: jax.Array, key: jax.Array, *, replays: int, settings: StepSettings
) -> PreparedBatch:
    """Augments and mixes a device's share of a batch, and draws the keys of the step.

    Every draw is a function of (key, step, position in the batch over all devices).

    Args:
      raw: the share.
      step: of training, traced.
      key: of the run.
      replays: how many steps in a row are made on each batch, augmented and mixed alike.
      settings: of the step.
    """
    batch_key = jax.random.fold_in(key, step // replays)
    step_key = jax.random.fold_in(key, step)
    share = len(raw.labels)
    size = share * jax.lax.axis_size(AXIS)
    positions = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
    augment_keys = _keys_by_position(batch_key, positions)[:, 0]
    attack_keys = _keys_by_position(step_key, positions)[:, 1]
    dropout_key = jax.random.fold_in(step_key, _DROPOUT)
    if settings.batch_norm == "per_device":
        dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(AXIS))

    options = dataclasses.asdict(settings.augmentation)
    images = data.augment(augment_keys, data.to_float(raw.images), **options)
    labels = jnp.asarray(raw.labels)
    if settings.soft_labels:
        labels = losses.smooth_labels(labels, settings.num_classes, settings.label_smoothing)
    if settings.mixing.kind != "none":
        partners = data.partners(jax.random.fold_in(batch_key, _MIXING), size)[positions]
        images, labels = _mixed(images, labels, partners, augment_keys, settings.mixing)
    batch = Batch(images, labels, jnp.asarray(raw.index), jnp.asarray(raw.weight))
    return PreparedBatch(batch, size, positions, attack_keys, dropout_key)


_DROPOUT, _MIXING = 2**31 - 1, 2**31 - 2
"""Folded into a key for dropout and mixing: no position in a batch is this large."""


def _keys_by_position(key: jax.Array, positions: jax.Array) -> jax.Array:
    """Two keys [B, 2] for each example of this device, by its position in the global batch."""
    return jax.vmap(lambda position: jax.random.split(jax.random.fold_in(key, position)))(positions)


def _mixed(
    images: jax.Array,
    labels: jax.Array,
    partners: jax.Array,
    augment_keys: jax.Array,
    mixing: data.Mixing,
) -> tuple[jax.Array, jax.Array]:
    """Images and labels mixed with those of their partners, which any device may have."""
    every = jax.lax.all_gather((images, labels), AXIS, tiled=True)
    other_images, other_labels = jax.tree.map(lambda whole: whole[partners], every)
    keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(augment_keys)
    return data.mix(keys, images, labels, other_images, other_labels, mixing)
