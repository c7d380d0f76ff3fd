"""What is attacked in an evaluation: a network on a data set, looked at before anything is run."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data
from robustjax.arguments import is_number, refusal, shown
from robustjax.attacks._checks import checked_logits_fn
from robustjax.attacks.engine.keys import checked_key
from robustjax.errors import UserError

LogitsFn = Callable[[jax.Array], jax.Array]


def check_subject(
    key: jax.Array, logits_fn: LogitsFn, dataset: data.Dataset, threat: attacks.ThreatModel
) -> None:
    """Refuses arguments of another kind than what is attacked, and how, is made of.

    Args:
      key: of `run_attack`, as the next three are.
      logits_fn: likewise.
      dataset: likewise.
      threat: likewise.

    Raises:
      ValueError: names the argument.
    """
    checked_logits_fn(logits_fn)
    if not isinstance(dataset, data.Dataset):
        raise refusal("dataset", type(dataset).__name__, "values of data.Dataset")
    if not isinstance(threat, attacks.ThreatModel):
        raise refusal("threat", shown(threat), "values of attacks.ThreatModel")
    if not is_number(threat.epsilon) and np.ndim(threat.epsilon) != 0:
        raise UserError("threat.epsilon holds one radius per example: accepted is one for all")
    if checked_key(key, len(dataset)).ndim:
        raise UserError("key holds one key per example: accepted is a single one")


def num_classes_of(logits_fn: LogitsFn, dataset: data.Dataset, batch_size: int) -> int:
    """How many logits the network gives; it is not run.

    Args:
      logits_fn: images -> logits.
      dataset: what it is to be attacked on.
      batch_size: of the images.

    Raises:
      ValueError: they are no logits [B, K], or fewer than the data set has classes.
    """
    shape = (min(batch_size, len(dataset)), *dataset.images.shape[1:])
    logits = jax.eval_shape(logits_fn, jax.ShapeDtypeStruct(shape, jnp.float32))
    if getattr(logits, "ndim", 0) != 2:
        raise refusal("logits_fn: logits", shown(logits), "arrays [B, K]")
    if logits.shape[1] <= dataset.labels.max():
        raise UserError(
            f"logits_fn gives {logits.shape[1]} logits, and labels go up to "
            f"{dataset.labels.max()}: the network is not of this data set"
        )
    return logits.shape[1]
