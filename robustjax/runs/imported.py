"""The folder of weights that were trained elsewhere: that of a run without a training."""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from robustjax.config import TrainConfig
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.files import Path, write_whole
from robustjax.runs.checkpoint import Checkpoints
from robustjax.runs.claim import claim, has_begun, lock
from robustjax.runs.names import CHECKPOINTS, ORIGIN

_FORMAT = 1

_STEP = 0
"""Of the one checkpoint: no step was taken here."""


def write_imported(
    config: TrainConfig, variables: Any, *, num_classes: int, origin: Mapping[str, Any]
) -> Path:
    """Makes a folder that whatever reads a run's network takes like one.

    Args:
      config: of imported weights: `method=IMPORTED`, no hold-out; names the folder and the network.
      variables: of the network, as `model.apply` takes them.
      num_classes: how many logits it gives.
      origin: where the weights come from, JSON: "file", "sha256", "layout", "command".

    Returns:
      The folder. One that holds the same weights already is left as it is.

    Raises:
      ValueError: it holds something else, or cannot be written.
    """
    variables = jax.tree.map(np.asarray, dict(variables))
    state = {"step": np.asarray(_STEP), "params": variables["params"]}
    if variables.get("batch_stats"):
        state["statistics"] = variables["batch_stats"]
    with lock(config.workdir):
        begun = has_begun(config.workdir)
        folder = claim(config, depends_on_length=False)
        with Checkpoints(folder / CHECKPOINTS, keep_best=False) as checkpoints:
            if begun:
                _require_same(checkpoints, state, config.workdir)
                return folder
            record = {
                "step": _STEP,
                "elapsed_seconds": 0.0,
                "options": config.options(),
                "num_classes": num_classes,
                "rows": [],
            }
            text = json.dumps({"format": _FORMAT, **origin}, indent=2)
            write_whole(folder / ORIGIN, f"{text}\n")
            checkpoints.save(_STEP, state, record)
    return folder


def _require_same(checkpoints: Checkpoints, state: Mapping[str, Any], workdir: str) -> None:
    there = checkpoints.restore_raw(best=False)
    mine, theirs = (
        digest({key: part.get(key) for key in ("params", "statistics")})
        for part in (state, there.state)
    )
    if there.step != _STEP or mine != theirs:
        raise UserError(
            f"workdir={workdir} holds other weights of the same network; name another folder"
        )
