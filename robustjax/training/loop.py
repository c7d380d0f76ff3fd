"""Training from the first line to the last: `train(config)` runs one experiment.

It can be killed at any moment and started again: the order of the data and every random draw are
functions of the seed, the step and the position in the batch, so a resumed run ends with the same
bits as one that was never interrupted.
"""

import collections
import contextlib
import dataclasses
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import jax
import numpy as np
from jax.experimental import multihost_utils

from robustjax import attacks, parallel
from robustjax.config import TrainConfig
from robustjax.files import Path
from robustjax.measure import Accuracy, make_measure
from robustjax.runs.checkpoint import METRIC, CheckpointError, Checkpoints, Restored
from robustjax.runs.claim import claim, has_begun, lock
from robustjax.runs.log import MetricsLog, Progress, Row, is_whole_row, read_rows
from robustjax.runs.names import CHECKPOINTS, METRICS
from robustjax.runs.ownership import require_own
from robustjax.step_size import default_step_size
from robustjax.training.experiment import Experiment, create_experiment
from robustjax.training.prefetch import computed_ahead
from robustjax.training.restore import load_run
from robustjax.training.schedules import depends_on_length
from robustjax.training.step.microbatch import require_divisor
from robustjax.training.train_state import Totals, TrainState

_STEPS_IN_FLIGHT = 2
"""How many steps the host may be ahead of the devices; bounds how late a NaN is noticed."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to try."""


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
) -> TrainResult:
    """Trains a robust classifier, or resumes the run that `config.workdir` holds.

    Args:
      config: the experiment.
      stream: where progress is shown; None shows nothing.
      after_epoch: called with the row of each epoch once it is logged; training waits for it.

    Raises:
      ValueError: an option has a value that is not accepted; nothing has been written.
      TrainingError: the loss is no longer finite.
      CheckpointError: there are checkpoints, and all of them are damaged.
    """
    is_main = parallel.is_main_process()
    stream = stream if is_main else None
    with _stop_signal() as stop, contextlib.ExitStack() as held:
        # Everything that can be wrong with the options is found before the folder is touched.
        devices = parallel.local_devices(config.devices or None)
        num_devices = len(devices) * jax.process_count()
        device_batch = parallel.per_device_batch(config.batch_size, num_devices)
        require_divisor(config.microbatch, device_batch)
        experiment = create_experiment(config, pretrained=_pretrained(config))
        template = jax.tree.map(np.asarray, experiment.initial_state())
        parallel.require_agreement(config.to_flags(), "the processes of the run have other flags")
        held.enter_context(lock(config.workdir))
        folder = claim(config, depends_on_length=depends_on_length(config.schedule), writes=is_main)
        for warning in experiment.warnings() if is_main else ():
            warnings.warn(warning, stacklevel=2)

        keep_best = experiment.holdout_set is not None
        with Checkpoints(
            folder / CHECKPOINTS,
            keep_best=keep_best,
            report=lambda line: _say(stream, line),
        ) as checkpoints:
            restored = checkpoints.restore_latest(template, lambda line: _say(stream, line))
            first_step = 0 if restored is None else restored.step
            parallel.require_agreement(
                str(first_step),
                f"--workdir={folder}: the processes of the run see different checkpoints; it must "
                "be a folder that they share",
            )
            elapsed, rows_before = 0.0, []
            if restored is not None:
                _require_whole(restored, folder)
                _require_same_data(restored.record, experiment)
                place = folder / CHECKPOINTS / str(restored.step)
                require_own(restored.record, config, place)
                elapsed = restored.record["elapsed_seconds"]
                epochs = first_step // experiment.steps_per_epoch
                rows_before = _rows_so_far(restored.record, folder, epochs, experiment, stream)
                _say(stream, f"resuming {folder} at step {first_step}")
            log = MetricsLog(folder / METRICS, writes=is_main, rows=rows_before)
            state = template if restored is None else restored.state
            run = _Run(experiment, devices, state, elapsed, rows_before)
            total_steps = config.epochs * experiment.steps_per_epoch
            progress = Progress(total_steps, first_step, config.epochs, stream)
            rows = []
            try:
                for row in run.epochs(stop, progress):
                    due = row["epoch"] % config.checkpoint_every == 0 or run.step == total_steps
                    state = run.host_state() if due else None
                    if state is not None:
                        _require_finite(state, config.learning_rate)
                    log.append(row)
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
            finally:
                progress.close()
        return TrainResult(folder, run.host_state(), rows, finished)


class _Run:
    """The state on the devices, and the steps that move it."""

    def __init__(
        self,
        experiment: Experiment,
        devices: list[jax.Device],
        state: TrainState,
        elapsed_seconds: float,
        log: list[Row],
    ) -> None:
        config = experiment.config
        self._experiment = experiment
        self._devices = devices
        self._key = jax.random.key(config.seed)
        self._started = time.monotonic() - elapsed_seconds
        self._log = log
        self.step = int(state.step)
        self._state = parallel.replicate(state, devices)
        self._train_step = experiment.train_step(devices)
        self._measure = make_measure(
            experiment.model,
            devices,
            attacks.ThreatModel(config.norm, config.test_epsilon),
            steps=config.measure_steps,
            step_size=default_step_size(config.test_epsilon, config.measure_steps),
            batch_size=config.batch_size,
        )
        self._train_sample = experiment.train_set.sample(config.measure_examples)
        self._train_set_digest = experiment.data_digest()

    def host_state(self) -> TrainState:
        """The state as NumPy arrays."""
        return parallel.unreplicate(self._state)

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state."""
        return {
            "step": self.step,
            "elapsed_seconds": time.monotonic() - self._started,
            "train_set": self._train_set_digest,
            "options": self._experiment.config.options(),
            "image_shape": list(self._experiment.train_set.images.shape[1:]),
            "num_classes": self._experiment.train_set.num_classes,
            "rows": list(self._log),
        }

    def epochs(self, stop: "_StopSignal", progress: Progress) -> Iterator[Row]:
        """Trains; yields a row after every complete epoch, ends early if asked to stop."""
        config = self._experiment.config
        steps_per_epoch = self._experiment.steps_per_epoch
        epochs = range(self.step // steps_per_epoch, config.epochs)
        for epoch, order in computed_ahead(self._experiment.order, epochs):
            rate = _Rate(config.batch_size)
            in_flight: collections.deque[jax.Array] = collections.deque()
            for index in order[self.step - epoch * steps_per_epoch :]:
                in_flight.append(self._dispatch(index))
                if len(in_flight) > _STEPS_IN_FLIGHT:
                    progress.advance(self._finite(in_flight))
                    rate.step_done()
                if stop.requested(self.step):
                    break
            while in_flight:
                progress.advance(self._finite(in_flight))
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

    def _finite(self, in_flight: collections.deque) -> float:
        """The loss of the oldest step in flight."""
        step = self.step - len(in_flight) + 1
        loss = float(parallel.unreplicate(in_flight.popleft()))
        if not math.isfinite(loss):
            epoch = (step - 1) // self._experiment.steps_per_epoch + 1
            raise TrainingError(
                _diverged(
                    f"the loss is {loss} at step {step} (epoch {epoch})",
                    self._experiment.config.learning_rate,
                )
            )
        return loss

    def _finish_epoch(self, epoch: int, images_per_second: float) -> Row:
        """Reads and resets the totals, measures, and makes the epoch's row."""
        experiment = self._experiment
        totals = parallel.unreplicate(self._state.totals)
        self._state = self._state.replace(
            totals=parallel.replicate(jax.tree.map(np.asarray, Totals.zero()), self._devices)
        )
        variables = self._state.variables(averaged=True)
        train = self._measure(variables, self._train_sample, self._key)
        holdout = Accuracy(None, None)
        if experiment.holdout_set is not None:
            holdout = self._measure(variables, experiment.holdout_set, self._key)
        return {
            "epoch": epoch + 1,
            "step": self.step,
            "loss": float(totals.weighted_loss / totals.weight),
            "train_clean_accuracy": train.clean,
            "train_robust_accuracy": train.robust,
            "holdout_clean_accuracy": holdout.clean,
            "holdout_robust_accuracy": holdout.robust,
            "learning_rate": float(experiment.learning_rate(self.step - 1)),
            "mean_backward_passes": float(totals.backward_passes / totals.examples),
            "images_per_second": images_per_second,
            "elapsed_seconds": time.monotonic() - self._started,
        }


class _Rate:
    """Images per second, from the end of the first step on, so that compiling does not count."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._times: list[float] = [time.monotonic()]

    def step_done(self) -> None:
        self._times.append(time.monotonic())

    def images_per_second(self) -> float:
        first = 1 if len(self._times) > 2 else 0
        steps, seconds = len(self._times) - 1 - first, self._times[-1] - self._times[first]
        return steps * self._batch_size / max(seconds, 1e-9)


class _StopSignal:
    """Whether SIGTERM or Ctrl-C came; the processes of a run agree on the step to stop at."""

    def __init__(self) -> None:
        self._came = False

    def receive(self, number: int, _: object) -> None:
        self._came = True
        if number == signal.SIGINT:
            # A second Ctrl-C does not wait for anything to be saved.
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def requested(self, step: int) -> bool:
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._came


@contextlib.contextmanager
def _stop_signal() -> Iterator[_StopSignal]:
    """Turns SIGTERM and Ctrl-C into a request to save and stop, if this is the main thread.

    JAX watches for SIGTERM itself where there are several processes.
    """
    stop = _StopSignal()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield stop
        return
    previous = {
        number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _pretrained(config: TrainConfig) -> Any:
    """The weights of --init_from, unless the run has begun and has its own."""
    if not config.init_from or has_begun(config.workdir):
        return None
    try:
        return load_run(config.init_from).variables
    except (ValueError, CheckpointError) as error:
        raise ValueError(f"--init_from={config.init_from}: {error}") from error


def _require_whole(restored: Restored, folder: Path) -> None:
    """Refuses a record without what training needs of it, as another program may have written."""
    for name, kind in (("train_set", str), ("elapsed_seconds", int | float)):
        if not isinstance(restored.record.get(name), kind):
            raise CheckpointError(
                f"checkpoint {folder / CHECKPOINTS / str(restored.step)} has a record "
                f"without {name!r}, from which training cannot go on; remove it to go on from the "
                "one before it"
            )


def _require_same_data(record: dict[str, Any], experiment: Experiment) -> None:
    # Checkpoints of the first format know the labels and the shape alone.
    known = "format" in record
    found = experiment.data_digest() if known else experiment.train_set.digest_of_labels()
    if record["train_set"] != found:
        config = experiment.config
        extra = f" --extra_data={config.extra_data}" if config.extra_data else ""
        raise ValueError(
            f"--dataset={config.dataset} --data_dir={config.data_dir}{extra}: the run in "
            f"--workdir={config.workdir} was trained on other data; name those, or another folder"
        )


def _rows_so_far(
    record: dict[str, Any], folder: Path, epochs: int, experiment: Experiment, stream: TextIO | None
) -> list[Row]:
    """The rows of the complete epochs, from the checkpoint; metrics.jsonl is written from them.

    Raises:
      CheckpointError: a checkpoint of the first format has no rows, the file lacks some, and the
        method goes by them.
    """
    path = folder / METRICS
    if "rows" in record:
        return [row for row in record["rows"] if is_whole_row(row) and row["epoch"] <= epochs]
    found = read_rows(path) if path.exists() else []
    rows = [row for row in found if is_whole_row(row) and row["epoch"] <= epochs]
    missing = sorted(set(range(1, epochs + 1)) - {row["epoch"] for row in rows})
    if missing and experiment.method.curriculum is not None:
        raise CheckpointError(
            f"{path} lacks the rows of the epochs {', '.join(map(str, missing))}, which "
            f"--method={experiment.config.method} goes by; put an intact copy back"
        )
    if missing:
        _say(stream, f"{path} lacks the rows of the epochs {', '.join(map(str, missing))}")
    return rows


def _require_finite(state: TrainState, learning_rate: float) -> None:
    """Refuses to save weights that the last step of an epoch has ruined."""
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)):
        message = f"weights are not finite after step {state.step}"
        raise TrainingError(_diverged(message, learning_rate))


def _diverged(what: str, learning_rate: float) -> str:
    return (
        f"{what}; try a lower --learning_rate (now {learning_rate:g}) or a warm-up, in another "
        "--workdir if this one has checkpoints"
    )


def _say(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        print(line, file=stream, flush=True)
