"""Training from the first line to the last: `train(config)` runs one experiment.

It can be killed at any moment and started again: the order of the data and every random draw are
functions of the seed, the step and the position in the batch, so a resumed run ends with the same
bits as one that was never interrupted.
"""

import collections
import contextlib
import dataclasses
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax
import numpy as np

from robustjax import parallel
from robustjax.cache import enable_compilation_cache
from robustjax.config import TrainConfig
from robustjax.files import Path
from robustjax.runs.checkpoint import METRIC, Checkpoints
from robustjax.runs.claim import claim, lock
from robustjax.runs.log import MetricsLog, Progress, Row
from robustjax.runs.names import CHECKPOINTS, METRICS
from robustjax.runs.writers import LoggedRun, create_writers
from robustjax.training.experiment import Experiment, create_experiment, with_objects
from robustjax.training.measuring import EpochAccuracy, Rate
from robustjax.training.nan_check import require_finite_loss, require_finite_weights
from robustjax.training.prefetch import computed_ahead
from robustjax.training.resuming import Beginning, pretrained, record_of, resume
from robustjax.training.schedules import depends_on_length
from robustjax.training.step.microbatch import require_divisor
from robustjax.training.stop_signal import StopSignal, stop_signal
from robustjax.training.train_state import Totals, TrainState

_STEPS_IN_FLIGHT = 2
"""How many steps the host may be ahead of the devices; bounds how late a NaN is noticed."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a call of `train` ended.

    Attributes:
      workdir: the folder of the run.
      state: the last state, NumPy leaves.
      rows: the rows of metrics.jsonl that this call added.
      finished: False if a signal stopped it; the state is saved, and the same call resumes.
    """

    workdir: Path
    state: TrainState
    rows: list[Row]
    finished: bool


def train(
    config: TrainConfig,
    stream: TextIO | None = sys.stderr,
    after_epoch: Callable[[Row], object] = lambda row: None,
    *,
    model: Any = None,
    method: Any = None,
    dataset: Any = None,
) -> TrainResult:
    """Trains a robust classifier, or resumes the run that `config.workdir` holds.

    What is given as an object takes the place of the option of that name. It is recorded as
    "<Name>", by which this process knows it from then on; in another one it is given again.

    Args:
      config: the experiment.
      stream: where progress is shown; None shows nothing.
      after_epoch: called with the row of each epoch once it is logged; training waits for it.
      model: a network, see `models.Classifier`; or what builds it, `build(num_classes=...)`.
      method: a `methods.Method`; or what makes one of hyper-parameters, those of `config.set`.
      dataset: a `data.Dataset` to train on; or a dictionary of them by split, "train" and "test";
        or a function `load(split, data_dir)`.

    Raises:
      ValueError: an option has a value that is not accepted; nothing has been written.
      TrainingError: the loss is no longer finite.
      CheckpointError: there are checkpoints, and all of them are damaged.
    """
    config = with_objects(config, model=model, method=method, dataset=dataset)
    enable_compilation_cache()
    is_main = parallel.is_main_process()
    stream = stream if is_main else None

    def say(line: str) -> None:
        if stream is not None:
            print(line, file=stream, flush=True)

    with stop_signal() as stop, contextlib.ExitStack() as held:
        # Everything that can be wrong with the options is found before the folder is touched.
        devices = parallel.local_devices(config.devices or None)
        num_devices = len(devices) * jax.process_count()
        device_batch = parallel.per_device_batch(config.batch_size, num_devices)
        require_divisor(config.microbatch, device_batch)
        writers = create_writers(config.log, config.workdir)
        experiment = create_experiment(config, pretrained=pretrained(config))
        first = jax.tree.map(np.asarray, experiment.initial_state())
        parallel.require_agreement(config.to_flags(), "the processes of the run have other flags")
        held.enter_context(lock(config.workdir))
        folder = claim(config, depends_on_length=depends_on_length(config.schedule), writes=is_main)
        for warning in experiment.warnings() if is_main else ():
            warnings.warn(warning, stacklevel=2)

        keep_best = experiment.holdout_set is not None
        checkpoints = held.enter_context(
            Checkpoints(folder / CHECKPOINTS, keep_best=keep_best, report=say)
        )
        beginning = resume(experiment, first, checkpoints, folder, say)
        log = MetricsLog(folder / METRICS, writes=is_main, rows=beginning.rows)
        logged = LoggedRun(folder, config.options(), tuple(beginning.rows))
        write = held.enter_context(writers(logged, writes=is_main))
        run = _Run(experiment, devices, beginning)
        total_steps = config.epochs * experiment.steps_per_epoch
        if run.step < total_steps:
            say(run.measured_by)
        progress = Progress(total_steps, run.step, config.epochs, stream)
        rows = []
        with contextlib.closing(progress):
            for row in run.epochs(stop, progress):
                due = row["epoch"] % config.checkpoint_every == 0 or run.step == total_steps
                state = run.host_state() if due else None
                if state is not None:
                    require_finite_weights(state, config.learning_rate)
                log.append(row)
                write(row)
                progress.epoch(row)
                rows.append(row)
                if state is not None:
                    checkpoints.save(run.step, state, run.record(), row[METRIC])
                after_epoch(row)
            finished = run.step >= total_steps
            if not finished:
                # Perhaps at the end of an epoch, which has been measured.
                metric = rows[-1][METRIC] if rows and rows[-1]["step"] == run.step else None
                checkpoints.save(run.step, run.host_state(), run.record(), metric)
                progress.say(f"stopped and saved at step {run.step}; the same command resumes")
        return TrainResult(folder, run.host_state(), rows, finished)


class _Run:
    """The state on the devices, and the steps that move it."""

    def __init__(
        self, experiment: Experiment, devices: list[jax.Device], beginning: Beginning
    ) -> None:
        self._experiment = experiment
        self._devices = devices
        self._key = jax.random.key(experiment.config.seed)
        self._started = time.monotonic() - beginning.elapsed_seconds
        self._log = list(beginning.rows)
        self.step = int(beginning.state.step)
        self._state = parallel.replicate(beginning.state, devices)
        self._train_step = experiment.train_step(devices)
        self._accuracy = EpochAccuracy(experiment, devices)
        self._data_digest = experiment.data_digest()

    @property
    def measured_by(self) -> str:
        """One line: what measures robust accuracy after each epoch."""
        return self._accuracy.description

    def host_state(self) -> TrainState:
        """The state as NumPy arrays."""
        return parallel.unreplicate(self._state)

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        return record_of(
            self._experiment,
            self._data_digest,
            step=self.step,
            elapsed_seconds=time.monotonic() - self._started,
            rows=self._log,
        )

    def epochs(self, stop: StopSignal, progress: Progress) -> Iterator[Row]:
        """Trains; yields a row after every complete epoch, ends early if asked to stop."""
        config = self._experiment.config
        steps_per_epoch = self._experiment.steps_per_epoch
        epochs = range(self.step // steps_per_epoch, config.epochs)
        for epoch, order in computed_ahead(self._experiment.order, epochs):
            rate = Rate(config.batch_size)
            in_flight: collections.deque[jax.Array] = collections.deque()
            for index in order[self.step - epoch * steps_per_epoch :]:
                in_flight.append(self._dispatch(index))
                if len(in_flight) > _STEPS_IN_FLIGHT:
                    progress.advance(self._finished_step(in_flight))
                    rate.step_done()
                if stop.requested(self.step):
                    break
            while in_flight:
                progress.advance(self._finished_step(in_flight))
                rate.step_done()
            if self.step < (epoch + 1) * steps_per_epoch:
                return
            row = self._finish_epoch(epoch, rate.images_per_second())
            self._log.append(row)
            yield row
            if stop.requested(self.step):
                return

    def _dispatch(self, index: np.ndarray) -> jax.Array:
        """Sends one batch to the devices and starts its step."""
        batch = self._experiment.train_set.batch(index[parallel.process_share(len(index))])
        scalars = {
            name: np.float32(value)
            for name, value in self._experiment.scalars_at(self.step, self._log).items()
        }
        batch = parallel.split_over_devices(batch, len(self._devices))
        self._state, loss = self._train_step(self._state, batch, scalars, self._key)
        self.step += 1
        return loss

    def _finished_step(self, in_flight: collections.deque) -> float:
        """The loss of the oldest step in flight."""
        step = self.step - len(in_flight) + 1
        loss = float(parallel.unreplicate(in_flight.popleft()))
        epoch = (step - 1) // self._experiment.steps_per_epoch + 1
        require_finite_loss(loss, step, epoch, self._experiment.config.learning_rate)
        return loss

    def _finish_epoch(self, epoch: int, images_per_second: float) -> Row:
        """Reads and resets the totals, measures, and makes the epoch's row."""
        totals = parallel.unreplicate(self._state.totals)
        self._state = self._state.replace(
            totals=parallel.replicate(jax.tree.map(np.asarray, Totals.zero()), self._devices)
        )
        accuracies = self._accuracy.of(self._state.variables(averaged=True), self._key)
        return {
            "epoch": epoch + 1,
            "step": self.step,
            "loss": float(totals.weighted_loss / totals.weight),
            **accuracies,
            "learning_rate": float(np.asarray(self._experiment.learning_rate(self.step - 1))),
            "mean_backward_passes": float(totals.backward_passes / totals.examples),
            "images_per_second": images_per_second,
            "elapsed_seconds": time.monotonic() - self._started,
        }
