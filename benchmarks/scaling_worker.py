"""`python -m benchmarks.scaling_worker JSON`: one process of a run on several devices.

Prints one line of JSON. `benchmarks.scaling` starts it, with as many CPU devices as it asks for.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import all_reduce
from benchmarks.neighbours import Neighbours
from benchmarks.timing import Side, alternate
from benchmarks.workload import NUM_CLASSES, Setting, train_config
from robustjax import parallel
from robustjax.training.experiment import Experiment, create_experiment
from robustjax.training.step import RawBatch


class SharedStep:
    """A train step whose batch some devices share.

    Args:
      experiment: its parts.
      batch: of the whole run, leaves [B, ...].
      devices: this process's.
      key: of the run.
    """

    def __init__(
        self, experiment: Experiment, batch: RawBatch, devices: Sequence[jax.Device], key: jax.Array
    ) -> None:
        rows = parallel.process_share(len(batch.labels))
        own = jax.tree.map(lambda leaf: leaf[rows], batch)
        self._batch = parallel.split_over_devices(own, len(devices))
        self._devices, self._key = devices, key
        self._initial = jax.tree.map(np.asarray, experiment.initial_state())
        scalars = experiment.scalars_at(0)
        self._scalars = {name: np.float32(value) for name, value in scalars.items()}
        self._step = experiment.train_step(devices)
        self.reset()

    def reset(self) -> None:
        """Back to the state before the first step."""
        self._state = parallel.replicate(self._initial, self._devices)
        jax.block_until_ready(self._state)

    def run(self) -> None:
        """One step; returns when all devices of this process are done."""
        self._state, loss = self._step(self._state, self._batch, self._scalars, self._key)
        jax.block_until_ready((self._state, loss))

    def weights(self) -> list[np.ndarray]:
        """Weights and statistics after the last step."""
        state = parallel.unreplicate(self._state)
        return jax.tree.leaves((state.params, state.statistics))

    def all_reduced(self) -> int:
        """Bytes that a step adds up over the devices, from its compiled program."""
        lowered = self._step.lower(self._state, self._batch, self._scalars, self._key)
        return all_reduce.counted(lowered.compile().as_text())

    def expected_all_reduced(self, setting: Setting) -> int:
        """The same from the sizes of the weights and statistics."""
        state = self._initial
        return all_reduce.expected(state.params, state.statistics, setting.work)


def measure(setting: Setting, devices: int, rounds: int, weights: Path | None) -> dict[str, Any]:
    """Times the step on this process's devices, and the same step on one of them.

    Args:
      setting: of the step; its batch is that of all devices and processes.
      devices: of this process.
      rounds: how often each is timed.
      weights: an .npz that is left for other runs, with the weights after the first step.

    Returns:
      "shared" and, in a run of one process with several devices, "alone": seconds of the rounds;
      "difference" of their weights after one step; the bytes of the all-reduces.
    """
    experiment, batch = _made(setting)
    key = jax.random.key(setting.seed)
    several = {"shared": parallel.local_devices(devices)}
    if devices > 1 and jax.process_count() == 1:
        several["alone"] = parallel.local_devices(1)
    steps = {name: SharedStep(experiment, batch, chosen, key) for name, chosen in several.items()}
    after = {}
    for name, step in steps.items():
        step.run()
        after[name] = step.weights()
    found: dict[str, Any] = {}
    if "alone" in after:
        found["difference"] = largest_difference(after["shared"], after["alone"])
    if weights is not None and parallel.is_main_process():
        np.savez(weights, *after.get("alone", after["shared"]))
    sides = {name: Side(step.run, step.reset) for name, step in steps.items()}
    with Neighbours() as neighbours:
        seconds = alternate(sides, rounds)
    shared = steps["shared"]
    return {
        **found,
        "seconds": seconds,
        "cpu_share_of_others": neighbours.share,
        "all_reduced_bytes": shared.all_reduced(),
        "expected_bytes": shared.expected_all_reduced(setting),
        "weights": after["shared"],
    }


def largest_difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest absolute difference between two lists of arrays."""
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(left - right).max()) for left, right in pairs)


def _made(setting: Setting) -> tuple[Experiment, RawBatch]:
    total, side = setting.batch_size, setting.image_size
    random = np.random.default_rng(setting.seed)
    images = random.integers(0, 256, (total, side, side, 3), np.uint8)
    labels = (np.arange(total) % NUM_CLASSES).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(path, images=images, labels=labels, num_classes=NUM_CLASSES)
        # The sign of a gradient that is 0 but for rounding would move a pixel either way.
        smooth = {"norm": "l2", "epsilon": 0.5, "step_size": 0.25}
        config = dataclasses.replace(train_config(setting), **smooth, data_dir=str(path), devices=0)
        experiment = create_experiment(config)
    index, weight = np.arange(total, dtype=np.int32), np.ones(total, np.float32)
    return experiment, RawBatch(images, labels, index, weight)


def main() -> None:
    """Reads what to do from the command line, and prints what was found."""
    task = json.loads(sys.argv[1])
    if task["processes"] > 1:
        parallel.initialize_processes(task["address"], task["processes"], task["process"])
    setting = Setting(**task["setting"])
    path = Path(task["weights"])
    alone = task["processes"] == 1
    found = measure(setting, task["devices"], task["rounds"], path if alone else None)
    weights = found.pop("weights")
    if not alone and parallel.is_main_process():
        with np.load(path) as stored:
            found["difference"] = largest_difference(weights, list(stored.values()))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
