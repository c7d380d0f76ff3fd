"""The references of the benchmark of the input pipeline: input without steps, and the reverse."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import parallel
from robustjax.training.experiment import Experiment
from robustjax.training.step import RawBatch


class InputAlone:
    """What the training loop does for its steps but for the steps: order, rows, sending.

    Args:
      experiment: whose training set is read.
      devices: that share each batch.
    """

    def __init__(self, experiment: Experiment, devices: Sequence[jax.Device]) -> None:
        self._experiment, self._devices = experiment, devices
        self._receive = parallel.map_over_devices(_receive, devices, in_axes=(0,))

    def seconds(self, epoch: int) -> float:
        """Sends every batch of an epoch to a program that only receives it; seconds per batch."""
        started = time.perf_counter()
        order = self._experiment.order(epoch)
        for index in order:
            batch = self._experiment.train_set.batch(index)
            received = self._receive(parallel.split_over_devices(batch, len(self._devices)))
        jax.block_until_ready(received)
        return (time.perf_counter() - started) / len(order)


class StepAlone:
    """The train step of an experiment, back to back on one batch that lies on the devices.

    Args:
      experiment: its parts, as training makes them.
      devices: that share the batch.
    """

    def __init__(self, experiment: Experiment, devices: Sequence[jax.Device]) -> None:
        batch = experiment.train_set.batch(experiment.order(0)[0])
        mesh = jax.sharding.Mesh(np.asarray(devices), (parallel.AXIS,))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(parallel.AXIS))
        self._batch = jax.device_put(parallel.split_over_devices(batch, len(devices)), rows)
        scalars = experiment.scalars_at(0)
        self._scalars = {name: np.float32(value) for name, value in scalars.items()}
        self._key = jax.random.key(experiment.config.seed)
        self._state = parallel.replicate(
            jax.tree.map(np.asarray, experiment.initial_state()), devices
        )
        self._step = experiment.train_step(devices)

    def seconds(self, steps: int) -> float:
        """Makes one step, then `steps` more under the clock; seconds per step."""
        jax.block_until_ready(self._next())
        started = time.perf_counter()
        for _ in range(steps):
            loss = self._next()
        jax.block_until_ready(loss)
        return (time.perf_counter() - started) / steps

    def _next(self) -> jax.Array:
        self._state, loss = self._step(self._state, self._batch, self._scalars, self._key)
        return loss


def _receive(batch: RawBatch) -> jax.Array:
    """Uses an entry of every array, so that none of them is left out."""
    return sum(jnp.ravel(leaf)[0].astype(jnp.float32) for leaf in batch)
