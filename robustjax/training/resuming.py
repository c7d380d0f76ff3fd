"""Where training begins: at the run's latest checkpoint, or at its first step.

What a checkpoint says of the run, beside the arrays of the state, is written and read here.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from robustjax import installed, parallel
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.runs.checkpoint import CheckpointError, Checkpoints
from robustjax.runs.claim import has_begun
from robustjax.runs.log import Row, is_whole_row, read_rows
from robustjax.runs.names import CHECKPOINTS, FLAGS, METRICS
from robustjax.runs.ownership import require_own
from robustjax.text import format_value
from robustjax.training.experiment import Experiment
from robustjax.training.restore import load_run
from robustjax.training.train_state import TrainState

PyTree = Any


class Beginning(NamedTuple):
    """What training goes on from.

    Attributes:
      state: NumPy leaves.
      elapsed_seconds: that training has taken so far.
      rows: of the log, of the complete epochs so far.
    """

    state: TrainState
    elapsed_seconds: float
    rows: list[Row]


def pretrained(config: TrainConfig) -> PyTree | None:
    """The weights that `init_from` names, unless the run has begun and has its own.

    Raises:
      ValueError: they cannot be read.
    """
    if not config.init_from or has_begun(config.workdir):
        return None
    if not (Path(config.init_from) / FLAGS).exists():
        raise UserError(
            f"init_from={config.init_from} holds no run: accepted is the folder of one, or what "
            f"{installed.written('import_weights')} has made of weights"
        )
    try:
        run = load_run(config.init_from)
    except (ValueError, CheckpointError) as error:
        raise UserError(f"init_from={config.init_from}: {error}") from error
    theirs, mine = run.config.network_options(), config.network_options()
    for name in dict.fromkeys([*theirs, *mine]):
        if theirs.get(name) != mine.get(name):
            said = format_value(theirs[name]) if name in theirs else "not given"
            warnings.warn(
                f"init_from={config.init_from}: the network there has {name}={said}, and is "
                "another function of the same weights here",
                stacklevel=2,
            )
    return run.variables


def resume(
    experiment: Experiment,
    first: TrainState,
    checkpoints: Checkpoints,
    folder: Path,
    say: Callable[[str], None],
) -> Beginning:
    """Where the run in a folder goes on, on every process of the run at the same step.

    Args:
      experiment: of the run.
      first: the state before the first step, NumPy leaves, for a run that has no checkpoint.
      checkpoints: of the run.
      folder: of the run.
      say: told what a person should know, line by line.

    Raises:
      CheckpointError: the checkpoints are damaged, or of another run, or lack what is needed.
      ValueError: the run was trained on other data, or the processes see different folders.
    """
    restored = checkpoints.restore_latest(first, say)
    parallel.require_agreement(
        "0" if restored is None else str(restored.step),
        f"workdir={folder}: the processes of the run see different checkpoints; it must "
        "be a folder that they share",
    )
    if restored is None:
        return Beginning(first, 0.0, [])
    record, where = restored.record, folder / CHECKPOINTS / str(restored.step)
    _require_whole(record, where)
    _require_same_data(record, experiment)
    require_own(record, experiment.config, where)
    epochs = restored.step // experiment.steps_per_epoch
    rows = _rows_so_far(record, folder / METRICS, epochs, experiment, say)
    say(f"resuming {folder} at step {restored.step}")
    return Beginning(restored.state, record["elapsed_seconds"], rows)


def record_of(
    experiment: Experiment,
    data_digest: str,
    *,
    step: int,
    elapsed_seconds: float,
    rows: Sequence[Row],
) -> dict[str, Any]:
    """What a checkpoint keeps beside the state.

    Args:
      experiment: of the run.
      data_digest: of its data, which takes a while to compute.
      step: how many have been taken.
      elapsed_seconds: that training has taken so far.
      rows: of the log, of the complete epochs so far.
    """
    return {
        "step": step,
        "elapsed_seconds": elapsed_seconds,
        "train_set": data_digest,
        "options": experiment.config.options(),
        "image_shape": list(experiment.train_set.images.shape[1:]),
        "num_classes": experiment.train_set.num_classes,
        "rows": list(rows),
    }


def _require_whole(record: dict[str, Any], where: Path) -> None:
    """Refuses a record without what training needs of it, as another program may have written."""
    for name, kind in (("train_set", str), ("elapsed_seconds", int | float)):
        if not isinstance(record.get(name), kind):
            raise CheckpointError(
                f"checkpoint {where} has a record "
                f"without {name!r}, from which training cannot go on; remove it to go on from the "
                "one before it"
            )


def _require_same_data(record: dict[str, Any], experiment: Experiment) -> None:
    # Checkpoints of the first format know the labels and the shape alone.
    known = "format" in record
    found = experiment.data_digest() if known else experiment.train_set.digest_of_labels()
    if record["train_set"] != found:
        config = experiment.config
        extra = f" extra_data={config.extra_data}" if config.extra_data else ""
        raise UserError(
            f"dataset={config.dataset} data_dir={config.data_dir}{extra}: the run in "
            f"workdir={config.workdir} was trained on other data; name those, or another folder"
        )


def _rows_so_far(
    record: dict[str, Any],
    path: Path,
    epochs: int,
    experiment: Experiment,
    say: Callable[[str], None],
) -> list[Row]:
    """The rows of the complete epochs, from the checkpoint; metrics.jsonl is written from them.

    Raises:
      CheckpointError: a checkpoint of the first format has no rows, the file lacks some, and the
        method goes by them.
    """
    if "rows" in record:
        return [row for row in record["rows"] if is_whole_row(row) and row["epoch"] <= epochs]
    found = read_rows(path) if path.exists() else []
    rows = [row for row in found if is_whole_row(row) and row["epoch"] <= epochs]
    missing = sorted(set(range(1, epochs + 1)) - {row["epoch"] for row in rows})
    lacking = f"{path} lacks the rows of the epochs {', '.join(map(str, missing))}"
    if missing and experiment.method.curriculum is not None:
        raise CheckpointError(
            f"{lacking}, which method={experiment.config.method} goes by; put an intact copy back"
        )
    if missing:
        say(lacking)
    return rows
