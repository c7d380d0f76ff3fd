"""Training: the state, the one mapped step, schedules, and the loop.

What a method does in the step is in `methods`; what a run leaves on the disk is in `runs`.
"""

from robustjax.runs.checkpoint import CheckpointError, Checkpoints
from robustjax.runs.log import read_rows
from robustjax.training.experiment import (
    Experiment,
    check_experiment,
    create_experiment,
    create_method,
    create_model,
    with_objects,
)
from robustjax.training.loop import TrainResult, train
from robustjax.training.nan_check import TrainingError
from robustjax.training.optimizer import create_optimizer
from robustjax.training.restore import TrainedRun, load_run
from robustjax.training.schedules import learning_rate_schedule
from robustjax.training.step import BoundNetwork, RawBatch, StepSettings, make_train_step
from robustjax.training.train_set import TrainSet, create_train_set, restrict
from robustjax.training.train_state import TrainState, create_state
from robustjax.training.whole_run import train_to_the_end

__all__ = [
    "BoundNetwork",
    "CheckpointError",
    "Checkpoints",
    "Experiment",
    "RawBatch",
    "StepSettings",
    "TrainResult",
    "TrainSet",
    "TrainState",
    "TrainedRun",
    "TrainingError",
    "check_experiment",
    "create_experiment",
    "create_method",
    "create_model",
    "create_optimizer",
    "create_state",
    "create_train_set",
    "learning_rate_schedule",
    "load_run",
    "make_train_step",
    "read_rows",
    "restrict",
    "train",
    "train_to_the_end",
    "with_objects",
]
