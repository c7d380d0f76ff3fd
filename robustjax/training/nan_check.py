"""When training has ruined its weights: noticed by the loss, or by the weights before a save."""

import math

import jax
import numpy as np

from robustjax.errors import UserError
from robustjax.training.train_state import TrainState


class TrainingError(UserError, RuntimeError):
    """Training cannot go on; the message says why and what to try."""


def require_finite_loss(loss: float, step: int, epoch: int, learning_rate: float) -> None:
    """Refuses to go on after a step whose loss is not finite.

    Args:
      loss: of the step.
      step: its number, from 1.
      epoch: its epoch, from 1.
      learning_rate: the option, for the message.

    Raises:
      TrainingError: it is not.
    """
    if not math.isfinite(loss):
        _refuse(f"the loss is {loss} at step {step} (epoch {epoch})", learning_rate)


def require_finite_weights(state: TrainState, learning_rate: float) -> None:
    """Refuses to save weights that the last step of an epoch has ruined.

    Raises:
      TrainingError: some are not finite.
    """
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)):
        _refuse(f"weights are not finite after step {state.step}", learning_rate)


def _refuse(what: str, learning_rate: float) -> None:
    raise TrainingError(
        f"{what}; try a lower learning_rate (now {learning_rate:g}) or a warm-up, in another "
        "workdir if this one has checkpoints"
    )
