"""`launch/train.py`: trains a robust classifier, or resumes the run that --workdir holds."""

import dataclasses
import sys
import textwrap

from absl import flags

from robustjax import installed, methods, models, parallel, reports, training
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.flags import config_from_flags, define_flags, own_hyperparameters
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS
from robustjax.text import format_value

DESCRIPTION = """\
Trains an adversarially robust classifier, or resumes the run that --workdir holds.

  python launch/train.py --flagfile=launch/quickstart.flags --workdir=runs/demo
  python launch/train.py --flagfile=launch/trades.flags --data_dir=DIR --workdir=runs/trades
  python launch/train.py --method=help          the methods and their own hyper-parameters
  python launch/train.py --method=help-trades   what one of them does, and what each of these means
  python launch/train.py --model=help           the networks"""

WAYS_TO_START = """\
three ways to start:
  python launch/train.py --flagfile=launch/quickstart.flags --workdir=runs/demo
      a small network on the embedded digits, in a minute
  python launch/train.py --flagfile=launch/trades.flags --data_dir=data --workdir=runs/trades
      a paper's experiment, once its data are there:
      python launch/prepare_data.py --dataset=cifar10 --data_dir=data
  python launch/train.py --method=trades --model=small_cnn --dataset=mnist --epsilon=0.3 \\
    --learning_rate=0.01 --epochs=10 --data_dir=data
      what you name; --method=help and --model=help list what there is"""

_HELP_ON = "help-"
"""Before the name of a method: what one of them is."""


def main() -> None:
    """Parses the command line and trains."""
    app.run(_main, define_flags, description=DESCRIPTION, groups=train_groups())


def _main() -> None:
    values = flags.FLAGS
    if values.method in ("help", _HELP_ON):
        print(describe_methods())
        return
    if values.method.startswith(_HELP_ON):
        print(methods.explain(values.method.removeprefix(_HELP_ON)))
        return
    if values.model == "help":
        print(describe_models())
        return
    _require_something_named(values)
    result = run_training()
    metrics = result.workdir / METRICS
    if result.finished and parallel.is_main_process():
        figure = figure_of(result.workdir)
        drawn = f"   figure: {figure}" if figure.exists() else ""
        print(f"log: {metrics}{drawn}", file=sys.stderr)


def _require_something_named(values: flags.FlagValues) -> None:
    """Refuses a command line of which nobody can have meant the hours that its defaults take."""
    if not any(values[name].present for name in ("method", "loss", "model", "dataset")):
        print(installed.as_written(WAYS_TO_START), file=sys.stderr)
        raise UserError(
            "nothing is named to train: accepted is a --flagfile, or some of --method, --loss, "
            "--model and --dataset"
        )


def run_training() -> training.TrainResult:
    """Trains as the parsed flags say; draws the training curves when it is finished."""
    config = config_from_flags()
    if not config.workdir:
        config = dataclasses.replace(config, workdir=_default_workdir(config))
    if config.cpu_devices:
        parallel.force_cpu_devices(config.cpu_devices)
    parallel.initialize_processes(
        config.coordinator_address or None,
        config.num_processes,
        config.process_id,
    )
    enable_compilation_cache()

    result = training.train(config)
    if result.finished and parallel.is_main_process():
        _draw(config, result.workdir)
    return result


def _draw(config: TrainConfig, workdir: Path) -> None:
    """Draws the training curves; says so where the extra for it is not installed."""
    try:
        draw = reports.training_curves
    except UserError as error:
        app.warn(f"the training curves are not drawn: {error}")
        return
    title = f"{config.method}, {config.model}, {config.dataset}"
    draw(read_rows(workdir / METRICS), figure_of(workdir), title)


def figure_of(workdir: Path) -> Path:
    """Where the training curves of a run are drawn."""
    return workdir / "figures" / "training.png"


def describe_methods() -> str:
    """The methods, one line each, and below each its own hyper-parameters with their defaults."""
    lines = []
    for name in methods.names():
        lines.append(f"{name:<16} {methods.summary(name)}")
        own = methods.hyperparameters(name)
        shown = "  ".join(f"--{key}={format_value(value) or 'none'}" for key, value in own.items())
        indent = " " * 17
        lines += textwrap.wrap(
            shown, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
        )
    return "\n".join(lines)


def describe_models() -> str:
    """The networks, one line each, and which come in other sizes too."""
    lines = [f"{name:<20} {models.describe(name)}" for name in models.names()]
    patterns = ", ".join(models.patterns())
    return "\n".join([*lines, f"in other sizes: {patterns}"])


def _default_workdir(config: TrainConfig) -> str:
    return f"runs/{config.method}-{config.dataset}-{config.model}-{config.seed}"


def train_groups() -> dict[str, list[str]]:
    """The groups that --help lists the flags in."""
    groups: dict[str, list[str]] = {}
    for field in dataclasses.fields(TrainConfig):
        groups.setdefault(field.metadata["group"], []).append(field.name)
    groups["method"] += list(own_hyperparameters())
    return groups
