"""Whether a checkpoint is one of the run in whose folder it lies."""

from collections.abc import Mapping
from typing import Any

from robustjax.config import TrainConfig
from robustjax.runs.checkpoint import CheckpointError


def require_own(record: Mapping[str, Any], config: TrainConfig, where: object) -> None:
    """Refuses the checkpoint of a run with other options, that was put into this folder.

    Args:
      record: of the checkpoint. What it does not say, as in an earlier version, is not compared.
      config: of the run.
      where: path of the checkpoint.

    Raises:
      CheckpointError: it is of another run; names the options that differ.
    """
    theirs, mine = record.get("options") or {}, config.options()
    differences = [
        f"{name}={theirs[name]} (here {mine[name]})"
        for name in theirs
        if name in mine and mine[name] != theirs[name]
    ]
    if differences:
        raise CheckpointError(
            f"checkpoint {where} is of another run, with {', '.join(differences)}; remove it"
        )
