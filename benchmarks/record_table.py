"""The record table: what networks withstand of AutoAttack, and what training them took."""

import json
import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import results, table
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation.trained import load_network
from robustjax.files import require_writable, write_whole
from robustjax.papers.cost import training_flops
from robustjax.runs.evaluations import Record
from robustjax.runs.folder import RunFolder, read_runs

DESCRIPTION = """\
The record table: accuracy under AutoAttack, and what the training took.

  python -m benchmarks record_table --workdirs=runs/a,runs/b --output=benchmarks/results/records
  python -m benchmarks record_table --output=benchmarks/results/records      prints what is there

Of each run: the clean accuracy and the one under standard AutoAttack, in the ball of its training
and on the same test images; the seconds of its training from the first line to the last, with
compiling and the measurements after each epoch; and its operations. Each becomes a row, NAME.json,
beside NAME.flags, with which anybody can repeat it on the same machine:

  python launch/train.py --flagfile=NAME.flags --data_dir=DIR --workdir=RUN
  python launch/evaluate.py --workdir=RUN --attacks=clean,autoattack

Train and evaluate on one machine: its name is taken from the evaluation."""

GROUPS = {"what": ["workdirs", "data_dir"], "run": ["output"]}

HEADER = (
    "data",
    "ball",
    "network",
    "method",
    "clean %",
    "AutoAttack %",
    "of images",
    "training s",
    "PFLOP",
    "device",
    "flags",
)

Row = dict[str, Any]

_NOT_OF_THE_EXPERIMENT = ("workdir", "data_dir", "results_dir", "cpu_devices")
"""Flags of a place, not of an experiment; the devices do not change it either."""


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("workdirs", [], "folders of runs, trained and evaluated")
    flags.DEFINE_string("data_dir", "", "where their data is now [where it was in training]")
    flags.DEFINE_string("output", "", "a folder for the rows; none if not given")


def main() -> None:
    """Writes the rows of the runs that are named; prints the table of all."""
    values = flags.FLAGS
    runs = read_runs(values.workdirs) if values.workdirs else []
    if not runs and not values.output:
        raise UserError("workdirs is not given; name the folders of one or more runs")
    rows = [row_of(run, values.data_dir) for run in runs]
    if values.output:
        folder = Path(values.output)
        require_writable(folder.absolute().parent, f"--output={folder}")
        for run, row in zip(runs, rows, strict=True):
            write(folder, row, run)
        rows = read(folder)
    print(markdown(rows))


def row_of(run: RunFolder, data_dir: str = "") -> Row:
    """The row of a run.

    Args:
      run: its folder.
      data_dir: where its data is now; "" where it was.

    Raises:
      ValueError: the training is not finished, or an evaluation is missing.
    """
    config = load_network(run.workdir, "best", examples=1, data_dir=data_dir).config
    if len(run.rows) < config.epochs:
        raise UserError(
            f"workdirs={run.workdir}: {len(run.rows)} of {config.epochs} epochs are trained; "
            "accepted are finished runs"
        )
    clean, attacked = _evaluations(run, config)
    return {
        "name": run.name.replace("/", "-"),
        "dataset": config.dataset,
        "norm": config.norm,
        "epsilon": config.test_epsilon,
        "model": config.model,
        "method": config.method,
        "clean": clean.accuracy,
        "autoattack": attacked.accuracy,
        "interval": list(attacked.interval),
        "examples": attacked.examples,
        "seconds": float(run.rows[-1]["elapsed_seconds"]),
        "flops": _flops(config, run.rows),
        "versions": attacked.about.get("versions", {}),
        "machine": {
            key: results.environment()[key] for key in ("device", "platform", "processor", "cores")
        },
        "evaluated_with": _without_places(str(attacked.about.get("command", ""))),
    }


def _without_places(command: str) -> str:
    """A command line without the folders that only one machine has."""
    words = shlex.split(command)
    return shlex.join(word for word in words if not word.startswith(("--workdir=", "--data_dir=")))


def _evaluations(run: RunFolder, config: TrainConfig) -> tuple[Record, Record]:
    """Clean and under AutoAttack: of one checkpoint, on the same images, the most there are."""
    ball = {"norm": config.norm, "version": "standard"}
    for attacked in sorted(run.records, key=lambda record: -record.examples):
        radius = attacked.settings.get("epsilon")
        if (
            attacked.attack != "autoattack"
            or any(attacked.settings.get(key) != value for key, value in ball.items())
            or not isinstance(radius, float)
            or not math.isclose(radius, config.test_epsilon, rel_tol=1e-6)
            or not attacked.data.get("own")
        ):
            continue
        for clean in run.records:
            if (
                clean.attack == "clean"
                and clean.examples == attacked.examples
                and clean.subject == attacked.subject
            ):
                return clean, attacked
    raise UserError(
        f"workdirs={run.workdir}: there is no clean accuracy and standard AutoAttack at "
        f"epsilon={config.test_epsilon:g} on the same test images; evaluate it first "
        f"(launch/evaluate.py --workdir={run.workdir} --attacks=clean,autoattack)"
    )


def _flops(config: TrainConfig, rows: Sequence[Mapping[str, Any]]) -> float:
    """Operations of the training, with the steps that its attacks have really taken."""
    steps = [row["mean_backward_passes"] for row in rows if "mean_backward_passes" in row]
    return training_flops(config, statistics.fmean(steps) if steps else None)


def write(folder: Path, row: Row, run: RunFolder) -> None:
    """Writes a row and the flags that repeat it."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in run.flags.items()
        if name not in _NOT_OF_THE_EXPERIMENT and value
    }
    lines = [
        f"--{name}" if value == "true" else f"--{name}={value}" for name, value in kept.items()
    ]
    write_whole(folder / f"{row['name']}.flags", "\n".join(lines) + "\n")
    text = json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / f"{row['name']}.json", text + "\n")


def read(folder: Path) -> list[Row]:
    """All rows of a folder: by data set, the most robust first.

    Raises:
      ValueError: there are none.
    """
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise UserError(f"--output={folder}: there are no rows in it; name runs with --workdirs")
    return sorted(rows, key=lambda row: (row["dataset"], row["epsilon"], -row["autoattack"]))


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    return table.markdown(HEADER, [_entries(row) for row in rows])


def _entries(row: Row) -> tuple[str, ...]:
    low, high = row["interval"]
    machine = row["machine"]
    device = machine["device"]
    if machine["platform"] == "cpu":
        device = f"{machine['cores']} cores, {machine['processor']}"
    return (
        row["dataset"],
        f"{row['norm']} {_radius(row['epsilon'])}",
        row["model"],
        row["method"],
        f"{100 * row['clean']:.1f}",
        f"{100 * row['autoattack']:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        str(row["examples"]),
        f"{row['seconds']:.0f}",
        f"{row['flops'] / 1e15:.3g}",
        device,
        row["name"],
    )


def _radius(epsilon: float) -> str:
    """As the field writes it: in 255ths, where it is a whole number of them."""
    parts = 255 * epsilon
    return f"{parts:.0f}/255" if abs(parts - round(parts)) < 1e-4 else f"{epsilon:g}"
