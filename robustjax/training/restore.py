"""Reads a trained network back from the folder of a run."""

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from robustjax.arguments import require_choice
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.flags import read_flags
from robustjax.runs.checkpoint import CheckpointError, Checkpoints, Restored
from robustjax.runs.names import CHECKPOINTS, FLAGS
from robustjax.runs.ownership import require_own
from robustjax.training.fitting import num_classes_of

PyTree = Any

_ATTEMPTS = 20
"""At reading a checkpoint of a run that saves one meanwhile."""


class TrainedRun(NamedTuple):
    """A run's experiment and its weights.

    Attributes:
      config: the experiment.
      variables: what `model.apply` takes, NumPy leaves.
      step: the checkpoint's.
      averaged: whether they are the moving average of the weights.
      image_shape: (H, W, C) of what it was trained on; None if its checkpoints do not say.
      recorded_classes: how many logits they say that it gives; None if they do not.
    """

    config: TrainConfig
    variables: PyTree
    step: int
    averaged: bool
    image_shape: tuple[int, ...] | None = None
    recorded_classes: int | None = None

    def num_classes(self, image_shape: Sequence[int]) -> int:
        """How many logits the network gives, once it is known to fit images of (H, W, C).

        Raises:
          ValueError: it does not.
        """
        return num_classes_of(
            self.config,
            self.variables,
            image_shape,
            trained_on=self.image_shape,
            recorded=self.recorded_classes,
        )


def load_run(workdir: str | os.PathLike, checkpoint: str = "best") -> TrainedRun:
    """The weights of a run: those of the moving average where there is one.

    Args:
      workdir: the folder of the run.
      checkpoint: "best" (highest hold-out robust accuracy; the latest where none was measured)
        or "latest".

    Raises:
      ValueError: there is no run, or `checkpoint` is neither.
      CheckpointError: there is no checkpoint, or it is damaged.
    """
    folder = Path(workdir)
    if not (folder / FLAGS).exists():
        raise UserError(f"workdir={workdir} holds no run: there is no {FLAGS} in it")
    require_choice("checkpoint", checkpoint, ("best", "latest"))
    config = read_flags(folder / FLAGS, alone=True)
    keep_best = config.holdout != 0
    directory = folder / CHECKPOINTS
    if not directory.exists():
        raise UserError(f"workdir={workdir}: the run has not saved a checkpoint yet")
    restored = _restore(directory, keep_best=keep_best, best=checkpoint == "best")
    require_own(restored.record, config, directory / str(restored.step))
    state = restored.state
    average = state.get("average") or {}
    weights = average if average else state
    if "params" not in weights:
        raise CheckpointError(f"workdir={workdir}: its checkpoint holds no weights")
    variables = {"params": weights["params"]}
    if weights.get("statistics"):
        variables["batch_stats"] = weights["statistics"]
    shape = restored.record.get("image_shape")
    return TrainedRun(
        config,
        variables,
        restored.step,
        bool(average),
        None if shape is None else tuple(shape),
        restored.record.get("num_classes"),
    )


def _restore(directory: Path, *, keep_best: bool, best: bool) -> Restored:
    """A checkpoint of a run that may be going on: one that is just removed is looked for again."""
    for _ in range(_ATTEMPTS):
        found: Restored | None = None
        trouble: CheckpointError | None = None
        said: list[str] = []
        with Checkpoints(
            directory, keep_best=keep_best, read_only=True, report=said.append
        ) as checkpoints:
            try:
                found = checkpoints.restore_raw(best=best and keep_best)
            except CheckpointError as error:
                trouble = error
            if not checkpoints.has_changed():
                break
    for line in said:
        warnings.warn(line, stacklevel=2)
    if found is None:
        assert trouble is not None  # Nothing was found.
        raise trouble
    return found
