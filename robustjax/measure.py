"""The small attack that scores a set of examples during training: clean and robust accuracy.

It runs mapped over the same devices as the train step. Evaluations to be published go through
`robustjax.evaluation`.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data, parallel
from robustjax.attacks.attack import Attack
from robustjax.attacks.engine.rows import misclassified
from robustjax.models.forward import forward
from robustjax.step_size import ReachWarning

PyTree = Any


class Accuracy(NamedTuple):
    """Fractions in [0, 1] of the examples measured."""

    clean: float
    robust: float


def make_measure(
    model: nn.Module,
    devices: Sequence[jax.Device],
    threat: attacks.ThreatModel,
    *,
    attack: Attack,
    batch_size: int,
) -> Callable[[PyTree, data.Dataset, jax.Array], Accuracy]:
    """Compiles the measurement once for every set of this image size.

    Args:
      model: the Flax network, called with train=False.
      devices: this process's devices; every process of the run measures its share of each batch.
      threat: the norm ball and the box.
      attack: with its step size, if it has one; called in a traced program.
      batch_size: over all devices; the last batch is padded and masked.

    Returns:
      (variables, dataset, key) -> Accuracy; `variables` as `model.apply` takes them, replicated.
      Every process gets the accuracy over the whole set.
    """
    num_devices = len(devices) * jax.process_count()
    parallel.per_device_batch(batch_size, num_devices)

    def count(
        variables: PyTree,
        images: jax.Array,
        labels: jax.Array,
        positions: jax.Array,
        counted: jax.Array,
        key: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        def logits_fn(batch: jax.Array) -> jax.Array:
            return forward(model, variables, batch)

        images = data.to_float(images)
        keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
        clean = ~misclassified(logits_fn(images), labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReachWarning)  # Training said it at its start.
            result = attack(keys, logits_fn, images, labels, threat)
        robust = clean & ~result.success
        return jax.lax.psum((jnp.sum(clean & counted), jnp.sum(robust & counted)), parallel.AXIS)

    mapped = parallel.map_over_devices(count, devices, in_axes=(0, 0, 0, 0, 0, None))

    def measure(variables: PyTree, dataset: data.Dataset, key: jax.Array) -> Accuracy:
        total = len(dataset.labels)
        counts = []
        for first in range(0, total, batch_size):
            positions = np.arange(first, first + batch_size)[parallel.process_share(batch_size)]
            rows = np.minimum(positions, total - 1)
            share = (dataset.images[rows], dataset.labels[rows], positions, positions < total)
            counts.append(mapped(variables, *parallel.split_over_devices(share, len(devices)), key))
        clean, robust = np.sum(
            [[parallel.unreplicate(value) for value in pair] for pair in counts], axis=0
        )
        return Accuracy(clean=float(clean) / total, robust=float(robust) / total)

    return measure
