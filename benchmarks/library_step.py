"""The library's train step as `launch/train.py` runs it: the same experiment, mapping and donation.

Also `probe`, which makes the library itself say where its attack starts and how far it goes.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import Workload
from robustjax import parallel
from robustjax.methods import Inner, Method, Objective, Outer, Perturbation
from robustjax.models import flops
from robustjax.training.step import RawBatch
from robustjax.training.train_state import TrainState


class LibraryStep:
    """The compiled step of a workload, and the state that it moves.

    Args:
      workload: what is trained, and on what.
      method: in place of the experiment's, if given.
      attack_steps: likewise.
      devices: that share the batch.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        method: Method | None = None,
        attack_steps: int | None = None,
        devices: int = 1,
    ) -> None:
        experiment, settings = workload.experiment, workload.experiment.settings
        if attack_steps is not None:
            settings = dataclasses.replace(settings, attack_steps=attack_steps)
        self._devices = parallel.local_devices(devices)
        self._initial = workload.state
        self._scalars = {
            name: np.float32(value) for name, value in experiment.scalars_at(0).items()
        }
        self._key = jax.random.key(workload.setting.seed)
        size = len(workload.labels)
        batch = RawBatch(
            images=workload.images,
            labels=workload.labels,
            index=np.arange(size, dtype=np.int32),
            weight=np.ones(size, np.float32),
        )
        self._batch = parallel.split_over_devices(batch, devices)
        changed = dataclasses.replace(
            experiment, method=method or experiment.method, settings=settings
        )
        self._step = changed.train_step(self._devices)
        self._state: TrainState | None = None

    def reset(self, state: TrainState | None = None) -> None:
        """Puts the workload's state, or the one given, on the device."""
        self._state = parallel.replicate(self._initial if state is None else state, self._devices)
        jax.block_until_ready(self._state)

    def run(self, times: int = 1) -> float:
        """Makes steps from where the state is; returns the last one's loss when it is there."""
        for _ in range(times):
            self._state, loss = self._step(self._state, self._batch, self._scalars, self._key)
        return float(parallel.unreplicate(loss))

    def flops(self, **options: bool) -> int:
        """Operations of the step as it is traced, dead code included; options of `flops.count`."""
        return flops.count(
            self._step, self._state, self._batch, self._scalars, self._key, **options
        )

    def program(self) -> str:
        """The text of the compiled program, in XLA's HLO."""
        lowered = self._step.lower(self._state, self._batch, self._scalars, self._key)
        return lowered.compile().as_text()

    def host_state(self) -> TrainState:
        """The state as NumPy arrays."""
        return parallel.unreplicate(self._state)


class Probe(NamedTuple):
    """What the library's attack does in the first step from the workload's state.

    Attributes:
      starts: float32 [B, H, W, 3], the images at which it takes its first gradient.
      steps_taken: int32 [B], gradients of each example.
    """

    starts: np.ndarray
    steps_taken: np.ndarray


def probe(workload: Workload) -> Probe:
    """Runs the library's step with a method whose memory keeps what its attack did."""
    setting, method = workload.setting, workload.experiment.method

    def start(inner: Inner) -> Perturbation:
        # A gaussian start is left outside the box for the first gradient; what an attack returns
        # is inside.
        bounds = None if setting.work.start == "gaussian" else inner.threat.bounds
        threat = dataclasses.replace(inner.threat, bounds=bounds)
        return method.perturb(inner._replace(threat=threat))

    starts, _ = _remembered(workload, start, 0)
    if not setting.work.stops:
        return Probe(starts, np.full(len(starts), setting.steps, np.int32))
    _, steps_taken = _remembered(workload, method.perturb, setting.steps)
    return Probe(starts, steps_taken)


def _remembered(
    workload: Workload, perturb: Callable[[Inner], Perturbation], attack_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The images [B, H, W, 3] and the backward passes [B] that an attack leaves."""

    def remember(inner: Inner) -> Perturbation:
        found = perturb(inner)
        return found._replace(memory=(found.images, found.backward_passes))

    method = dataclasses.replace(
        workload.experiment.method,
        perturb=remember,
        outer=weightless_outer,
        memory_of="position",
    )
    step = LibraryStep(workload, method=method, attack_steps=attack_steps)
    memory = (
        np.zeros(workload.images.shape, np.float32),
        np.zeros(len(workload.labels), np.int32),
    )
    step.reset(workload.state.replace(memory=memory))
    step.run()
    return step.host_state().memory


def weightless_outer(outer: Outer) -> Objective:
    """An outer loss that costs nothing: 0 for every example, whatever the weights."""
    first, *_ = jax.tree.leaves(outer.network.params)
    nothing = 0.0 * jnp.sum(first)
    loss = jnp.zeros(outer.batch.labels.shape[0]) + nothing
    return Objective(loss, outer.network.statistics)
