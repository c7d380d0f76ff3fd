"""Checkpoints: the latest two and the best, saved in the background, verified when read.

Orbax stores the arrays. It neither notices a flipped bit nor falls back to an older checkpoint, so
each checkpoint carries a digest of its arrays, and restoring walks back over the saved steps.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from flax import serialization, traverse_util
from orbax.checkpoint import checkpoint_managers

from robustjax.files import Path

PyTree = Any

METRIC = "holdout_robust_accuracy"
"""Names the metric that the best checkpoint has the most of."""


class Restored(NamedTuple):
    """A checkpoint read back: the state (NumPy leaves), and the record saved beside it."""

    step: int
    state: PyTree
    record: dict[str, Any]


class CheckpointError(RuntimeError):
    """No checkpoint could be read; the message says which were tried and what is wrong."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they lie; made if it does not exist.
      keep_best: whether the one with the highest hold-out robust accuracy is kept too.
      read_only: whether nothing is to be saved; then the directory is not made.

    Every process of the run has to make the same calls.
    """

    def __init__(
        self, directory: str | os.PathLike, *, keep_best: bool, read_only: bool = False
    ) -> None:
        # Orbax warns about every checkpoint without a metric; those saved on SIGTERM have none.
        logging.getLogger("absl").setLevel(logging.ERROR)
        policies: list[Any] = [checkpoint_managers.LatestN(2)]
        if keep_best:
            best = checkpoint_managers.BestN(
                n=1, get_metric_fn=_metric, keep_checkpoints_without_metrics=False
            )
            policies.append(best)
        options = ocp.CheckpointManagerOptions(
            best_fn=_metric if keep_best else None,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            create=not read_only,
            read_only=read_only,
        )
        folder = Path(directory)
        in_bucket = "://" in os.fspath(folder)
        self._manager = ocp.CheckpointManager(
            folder if in_bucket else folder.absolute(), options=options
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the saves under way, then releases the directory."""
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps at which a checkpoint exists, increasing."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the highest hold-out robust accuracy of those saved; the later of equals.

        None where no checkpoint was measured. Epochs that were not saved may have been better.
        """
        return self._manager.best_step()

    def save(
        self, step: int, state: PyTree, record: dict[str, Any], metric: float | None = None
    ) -> None:
        """Starts saving; returns as soon as the arrays may change.

        Args:
          step: the number of steps taken.
          state: a pytree of NumPy arrays.
          record: what else the run needs to go on, JSON.
          metric: the hold-out robust accuracy, if it was measured at this step.
        """
        if step in self._manager.all_steps():
            return
        arrays = _arrays(state)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(traverse_util.unflatten_dict(arrays)),
                record=ocp.args.JsonSave({**record, "digest": _digest(arrays)}),
            ),
            metrics=None if metric is None else {METRIC: metric},
            force=True,
        )

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
            except CheckpointError as error:
                report(f"{error}; trying the one before it")
                damaged.append(step)
                continue
            for unusable in damaged:
                self._manager.delete(unusable)
            return restored
        if steps:
            raise CheckpointError(
                f"every checkpoint in {self._manager.directory} is damaged: {steps}; start again "
                "in another --workdir, or put an intact copy back"
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
        return f"checkpoint {self._manager.directory}/{step}"

    def _read(self, step: int) -> Restored:
        """The arrays of one step as nested dictionaries, checked against their digest."""
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(), record=ocp.args.JsonRestore()
                ),
            )
            record = dict(restored.record)
            intact = record.pop("digest") == _digest(traverse_util.flatten_dict(restored.state))
        except Exception as error:  # Orbax raises a different kind for every kind of damage.
            reason = str(error).strip().splitlines()
            raise CheckpointError(
                f"{self._name(step)} cannot be read "
                f"({type(error).__name__}: {reason[0] if reason else ''})"
            ) from error
        if not intact:
            raise CheckpointError(
                f"{self._name(step)} is damaged: its arrays differ from its digest"
            )
        return Restored(step, restored.state, record)


def _metric(metrics: dict[str, float]) -> float:
    return metrics[METRIC]


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
            raise ValueError(
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
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()
