"""Training: the state, the one mapped step, schedules, the loop, checkpoints and logs."""

from robustjax.training.checkpoint import CheckpointError, Checkpoints
from robustjax.training.experiment import Experiment, create_experiment, create_method, create_model
from robustjax.training.loop import TrainingError, TrainResult, train
from robustjax.training.network import BoundNetwork
from robustjax.training.optimizer import create_optimizer
from robustjax.training.restore import TrainedRun, load_run
from robustjax.training.schedules import learning_rate_schedule
from robustjax.training.state import TrainState, create_state
from robustjax.training.step import RawBatch, StepSettings, make_train_step

__all__ = [
    "BoundNetwork",
    "CheckpointError",
    "Checkpoints",
    "Experiment",
    "RawBatch",
    "StepSettings",
    "TrainResult",
    "TrainState",
    "TrainedRun",
    "TrainingError",
    "create_experiment",
    "create_method",
    "create_model",
    "create_optimizer",
    "create_state",
    "learning_rate_schedule",
    "load_run",
    "make_train_step",
    "train",
]
