"""The train step: one pure per-device function, the same for every method, a stage a file.

`train_step` is the algorithm, read from top to bottom; the other files are its stages. What a
method does in them is in `methods`; the optimiser, the schedules and the loop are in `training`.
"""

from robustjax.training.step.batch_preparation import RawBatch
from robustjax.training.step.network import BoundNetwork
from robustjax.training.step.settings import StepSettings
from robustjax.training.step.train_step import make_train_step

__all__ = ["BoundNetwork", "RawBatch", "StepSettings", "make_train_step"]
