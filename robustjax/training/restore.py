"""Reads a trained network back from the folder of a run."""

import os
from typing import Any, NamedTuple

from robustjax.config import TrainConfig
from robustjax.files import Path
from robustjax.flags import read_flags
from robustjax.training import workdir as run_folder
from robustjax.training.checkpoint import Checkpoints

PyTree = Any


class TrainedRun(NamedTuple):
    """A run's experiment and its weights.

    Attributes:
      config: the experiment.
      variables: what `model.apply` takes, NumPy leaves.
      step: the checkpoint's.
      averaged: whether they are the moving average of the weights.
    """

    config: TrainConfig
    variables: PyTree
    step: int
    averaged: bool


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
    if not (folder / run_folder.FLAGS).exists():
        raise ValueError(f"--workdir={workdir} holds no run: there is no {run_folder.FLAGS} in it")
    if checkpoint not in ("best", "latest"):
        raise ValueError(f"--checkpoint={checkpoint}: accepted are best, latest")
    config = read_flags(folder / run_folder.FLAGS)
    keep_best = config.holdout != 0
    directory = folder / run_folder.CHECKPOINTS
    if not directory.exists():
        raise ValueError(f"--workdir={workdir}: the run has not saved a checkpoint yet")
    with Checkpoints(directory, keep_best=keep_best, read_only=True) as checkpoints:
        restored = checkpoints.restore_raw(best=checkpoint == "best" and keep_best)
    state = restored.state
    average = state.get("average") or {}
    weights = average if average else state
    variables = {"params": weights["params"]}
    if weights.get("statistics"):
        variables["batch_stats"] = weights["statistics"]
    return TrainedRun(config, variables, restored.step, bool(average))
