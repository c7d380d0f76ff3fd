"""Training as one step of a longer work, which is of no use half done."""

from typing import Any

from robustjax.config import TrainConfig
from robustjax.training.loop import TrainResult, train
from robustjax.training.nan_check import TrainingError


def train_to_the_end(config: TrainConfig, **options: Any) -> TrainResult:
    """Trains as `train` does, or goes on with it; raises where a signal stopped it.

    Args:
      config: the experiment.
      **options: of `train`.

    Raises:
      TrainingError: a signal stopped the run, which is saved; or its loss is not finite.
    """
    result = train(config, **options)
    if not result.finished:
        raise TrainingError(
            f"{result.workdir.name} was stopped and is saved; the same command goes on with it"
        )
    return result
