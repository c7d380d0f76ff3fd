"""Checkpoints: the latest two and the best, saved in the background, verified when read.

Orbax stores the arrays. It neither notices a flipped bit nor falls back to an older checkpoint, and
a damaged metric keeps it from reading any. So each checkpoint has a record beside its arrays, which
holds their digest, the metric that the best is chosen by, and whatever else training depends on,
and is itself covered by a digest; restoring walks back over the saved steps.
"""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from flax import serialization, traverse_util

from robustjax.arguments import is_finite, is_number
from robustjax.errors import UserError
from robustjax.files import Path, read_json

PyTree = Any

METRIC = "holdout_robust_accuracy"
"""Names the metric that the best checkpoint has the most of."""

_FORMAT = 2
"""Of the record. The first had no number, no rows of the log, and the metric in another file."""

_LATEST = 2
"""How many of the latest checkpoints are kept: a damaged newest one has a predecessor."""


class Restored(NamedTuple):
    """A checkpoint read back: the state (NumPy leaves), and the record saved beside it."""

    step: int
    state: PyTree
    record: dict[str, Any]


class CheckpointError(UserError, RuntimeError):
    """No checkpoint could be read, or written; the message says which, and what is wrong."""


class NewerFormatError(CheckpointError):
    """A checkpoint was written by a later version; it is whole, and stays."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they lie; made if it does not exist.
      keep_best: whether the one with the highest hold-out robust accuracy is kept too.
      read_only: whether nothing is to be saved; then the directory is not made.
      report: told, in one line, of records that are damaged; they count as unmeasured.

    Every process of the run has to make the same calls.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        keep_best: bool,
        read_only: bool = False,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        # What goes wrong in the background is raised here in the end, and told once.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        folder = Path(directory)
        in_bucket = "://" in os.fspath(folder)
        self._directory = folder if in_bucket else Path(os.path.abspath(folder))
        self._keep_best = keep_best
        self._report = report
        self._metrics: dict[int, float | None] = {}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_LatestAndBest(self._best_of if keep_best else _none_of),
            create=not read_only,
            read_only=read_only,
            # Otherwise it reads the metrics of the first format, and a damaged one keeps it from
            # opening the directory.
            lightweight_initialize=True,
        )
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the saves under way, then releases the directory.

        Raises:
          CheckpointError: one of them could not be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error
        finally:
            self._manager.close()

    def steps(self) -> list[int]:
        """The steps at which a checkpoint exists, increasing."""
        return sorted(self._manager.all_steps())

    def has_changed(self) -> bool:
        """Looks again; whether a training beside it has saved or removed a checkpoint meanwhile."""
        known = self.steps()
        self._manager.reload()
        return self.steps() != known

    def best_step(self) -> int | None:
        """The step with the highest hold-out robust accuracy of those saved; the later of equals.

        None where no checkpoint was measured. Epochs that were not saved may have been better.
        """
        return self._best_of(self.steps()) if self._keep_best else None

    def save(
        self, step: int, state: PyTree, record: dict[str, Any], metric: float | None = None
    ) -> None:
        """Starts saving; returns as soon as the arrays may change.

        Args:
          step: the number of steps taken.
          state: a pytree of NumPy arrays.
          record: what else the run needs to go on, JSON.
          metric: the hold-out robust accuracy, if it was measured at this step.

        Raises:
          CheckpointError: this checkpoint, or the one before it, could not be written.
        """
        if step in self._manager.all_steps():
            return
        arrays = _arrays(state)
        record = {**record, "format": _FORMAT, "metric": metric, "digest": _digest(arrays)}
        self._metrics[step] = metric
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(traverse_util.unflatten_dict(arrays)),
                    record=ocp.args.JsonSave({**record, "record_digest": _digest_of(record)}),
                ),
                force=True,
            )
        except Exception as error:  # Orbax raises a different kind for every kind of trouble.
            raise self._not_written(error) from error

    def restore_latest(self, template: PyTree, report: Callable[[str], None]) -> Restored | None:
        """The newest checkpoint that is whole; newer ones, being damaged, are removed.

        They have to go: training will reach their step again, and save a good one.

        Args:
          template: a state of the same structure; its leaves say the shapes and dtypes.
          report: told about each damaged checkpoint, in one line.

        Returns:
          The checkpoint, or None where there is none.

        Raises:
          CheckpointError: there are checkpoints, and every one is damaged.
        """
        steps = self.steps()
        damaged = []
        for step in reversed(steps):
            try:
                restored = self.restore(step, template)
            except NewerFormatError:
                raise
            except CheckpointError as error:
                report(f"{error}; trying the one before it")
                damaged.append(step)
                continue
            for unusable in damaged:
                self._manager.delete(unusable)
                self._metrics.pop(unusable, None)
            return restored
        if steps:
            raise CheckpointError(
                f"every checkpoint in {self._manager.directory} is damaged: {steps}; start again "
                "in another workdir, or put an intact copy back"
            )
        return None

    def restore_raw(self, *, best: bool) -> Restored:
        """One checkpoint as nested dictionaries of arrays, for readers that only want weights.

        Args:
          best: the one with the highest hold-out robust accuracy; otherwise the latest. Where no
            checkpoint was measured the latest is the best.

        Raises:
          CheckpointError: there is no checkpoint, or it is damaged.
        """
        steps = self.steps()
        if not steps:
            raise CheckpointError(f"there is no checkpoint in {self._manager.directory}")
        step = self.best_step() if best else None
        return self._read(steps[-1] if step is None else step)

    def restore(self, step: int, template: PyTree) -> Restored:
        """The checkpoint of one step, checked against its digest.

        Raises:
          CheckpointError: it is damaged.
          ValueError: it belongs to a state of another structure.
        """
        restored = self._read(step)
        state = _with_arrays(template, restored.state, self._name(step))
        return restored._replace(state=state)

    def _name(self, step: int) -> str:
        return f"checkpoint {self._directory}/{step}"

    def _read(self, step: int) -> Restored:
        """The arrays of one step as nested dictionaries, checked against their digest."""
        record = self._read_record(step)
        try:
            state = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
            ).state
            intact = record.pop("digest") == _digest(traverse_util.flatten_dict(state))
        except Exception as error:  # Orbax raises a different kind for every kind of damage.
            raise CheckpointError(
                f"{self._name(step)} cannot be read ({_reason(error)})"
            ) from error
        if not intact:
            raise CheckpointError(
                f"{self._name(step)} is damaged: its arrays differ from its digest"
            )
        return Restored(step, state, record)

    def _read_record(self, step: int) -> dict[str, Any]:
        """The record of one step, checked against its digest.

        Raises:
          CheckpointError: it is damaged.
          NewerFormatError: it is of a later version.
        """
        path = self._directory / str(step) / "record" / "metadata"
        try:
            record = read_json(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._name(step)} cannot be read ({error})") from error
        version = record.get("format", 1)
        if not isinstance(version, int) or version > _FORMAT:
            raise NewerFormatError(
                f"{self._name(step)} has the format {version!r:.40}, which this version of "
                f"robustjax does not know; it reads up to {_FORMAT}"
            )
        if version > 1 and record.pop("record_digest", None) != _digest_of(record):
            raise CheckpointError(
                f"{self._name(step)} is damaged: its record differs from its digest"
            )
        if not isinstance(record.get("digest"), str):
            raise CheckpointError(f"{self._name(step)} is damaged: its record has no digest")
        if record.get("step", step) != step:
            raise CheckpointError(
                f"{self._name(step)} is damaged: its record is that of step {record['step']!r:.40}"
            )
        for name, is_right in _KINDS.items():
            if record.get(name) is not None and not is_right(record[name]):
                raise CheckpointError(
                    f"{self._name(step)} is damaged: its record has {name}={record[name]!r:.40}"
                )
        return record

    def _best_of(self, steps: Sequence[int]) -> int | None:
        measured = {step: self._metric(step) for step in steps}
        known = {step: metric for step, metric in measured.items() if metric is not None}
        return max(known, key=lambda step: (known[step], step), default=None)

    def _metric(self, step: int) -> float | None:
        """The hold-out robust accuracy at a step; None if it was not measured, or is not known."""
        if step not in self._metrics:
            self._metrics[step] = None
            try:
                record = self._read_record(step)
                metric = record["metric"] if "format" in record else self._metric_file(step)
                if is_number(metric) and 0 <= metric <= 1:
                    self._metrics[step] = float(metric)
            except CheckpointError as error:
                self._report(f"{error}; it counts as unmeasured")
        return self._metrics[step]

    def _metric_file(self, step: int) -> Any:
        """What the first format has in a file of its own; None if there is none."""
        path = self._directory / str(step) / "metrics" / "metrics"
        if not path.exists():
            return None
        try:
            return read_json(path).get(METRIC)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._name(step)}: {error}") from error

    def _not_written(self, error: Exception) -> CheckpointError:
        why = "there is no space left" if _is_full(error) else _reason(error)
        return CheckpointError(
            f"a checkpoint could not be written into {self._directory}: {why}; those that were "
            "saved before it are whole, and the same command goes on from them"
        )


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(part, kind) for part in value)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "elapsed_seconds": lambda value: is_number(value) and is_finite(value),
    "image_shape": _is_list_of(int),
    "num_classes": is_number,
    "options": lambda value: isinstance(value, dict),
    "rows": _is_list_of(dict),
    "train_set": lambda value: isinstance(value, str),
}
"""What the values of a record are; each may also be missing."""


class _LatestAndBest(NamedTuple):
    """Which checkpoints stay, as Orbax asks for it: the latest two, and the best of all.

    Attributes:
      best_of: the best of some steps, if there is one.
    """

    best_of: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether each checkpoint stays; they have a `step`, increasing."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*steps[-_LATEST:], self.best_of(steps)}
        return [step in kept for step in steps]


def _none_of(steps: Sequence[int]) -> None:
    """Where there is no best."""


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk that is full is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "RESOURCE_EXHAUSTED" in str(error) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _digest_of(record: dict[str, Any]) -> str:
    """SHA-256 over a record as JSON has it."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _arrays(state: PyTree) -> dict[tuple[str, ...], np.ndarray]:
    """The leaves of a state by their path; empty parts of the structure have none."""
    flat = traverse_util.flatten_dict(serialization.to_state_dict(state))
    return {path: np.asarray(leaf) for path, leaf in flat.items()}


def _with_arrays(template: PyTree, state: dict[str, Any], name: str) -> PyTree:
    """The template with its leaves replaced by the arrays of a state that was read."""
    arrays = traverse_util.flatten_dict(state)
    wanted = traverse_util.flatten_dict(
        serialization.to_state_dict(template), keep_empty_nodes=True
    )
    for path, leaf in wanted.items():
        if leaf is traverse_util.empty_node:
            continue
        found = arrays.get(path)
        if found is None or found.shape != tuple(leaf.shape) or found.dtype != leaf.dtype:
            has = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise UserError(
                f"{name} does not fit the network or the method: at {'/'.join(path)} it has {has} "
                f"where {leaf.dtype}{list(leaf.shape)} is needed"
            )
        wanted[path] = found
    return serialization.from_state_dict(template, traverse_util.unflatten_dict(wanted))


def _digest(arrays: dict[tuple[str, ...], np.ndarray]) -> str:
    """SHA-256 over the names, shapes, dtypes and bytes of the arrays."""
    digest = hashlib.sha256()
    for path in sorted(arrays):
        array = np.ascontiguousarray(arrays[path])
        digest.update(f"{'/'.join(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
