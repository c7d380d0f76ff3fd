"""`launch/train.py`: trains a robust classifier, or resumes the run that --workdir holds."""

import dataclasses
import sys

from absl import flags

from robustjax import methods, models, parallel
from robustjax.cli import app, compilation
from robustjax.config import TrainConfig, config_from_flags, define_flags

DESCRIPTION = """\
Trains an adversarially robust classifier, or resumes the run that --workdir holds.

  python launch/train.py --flagfile=launch/quickstart.flags --workdir=runs/demo
  python launch/train.py --flagfile=launch/trades.flags --data_dir=DIR --workdir=runs/trades
  python launch/train.py --method=help      the methods and their own hyper-parameters
  python launch/train.py --model=help       the networks"""


def main() -> None:
    """Parses the command line and trains."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=_groups())


def _main() -> None:
    values = flags.FLAGS
    if values.method == "help":
        print(describe_methods())
        return
    if values.model == "help":
        print(describe_models())
        return
    config = config_from_flags()
    named = tuple(
        f"{name}={values[name].value}"
        for name in _own_hyperparameters()
        if values[name].value is not None
    )
    config = dataclasses.replace(config, set=(*config.set, *named))
    if not config.workdir:
        config = dataclasses.replace(config, workdir=_default_workdir(config))
    if config.cpu_devices:
        parallel.force_cpu_devices(config.cpu_devices)
    parallel.initialize_processes(
        config.coordinator_address or None,
        config.num_processes or None,
        config.process_id if config.num_processes else None,
    )
    compilation.enable_cache()

    # Imported late: a wrong flag is answered before the heavy imports.
    from robustjax import evaluation, training
    from robustjax.training.log import read_rows

    result = training.train(config)
    metrics = result.workdir / "metrics.jsonl"
    if parallel.is_main_process() and metrics.exists():
        figure = evaluation.training_curves(
            read_rows(metrics),
            result.workdir / "figures" / "training.png",
            f"{config.method}, {config.model}, {config.dataset}",
        )
        print(f"log: {metrics}   figure: {figure}", file=sys.stderr)


def describe_methods() -> str:
    """The methods, one line each, and below each its own hyper-parameters with their defaults."""
    lines = []
    for name in methods.names():
        lines.append(f"{name:<12} {methods.summary(name)}")
        own = methods.hyperparameters(name)
        if own:
            lines.append(" " * 13 + "  ".join(f"--{key}={value}" for key, value in own.items()))
    return "\n".join(lines)


def describe_models() -> str:
    """The networks, one line each."""
    return "\n".join(f"{name:<20} {models.describe(name)}" for name in models.names())


def _default_workdir(config: TrainConfig) -> str:
    return f"runs/{config.method}-{config.dataset}-{config.model}-{config.seed}"


def _own_hyperparameters() -> dict[str, list[str]]:
    """Hyper-parameters that are no option of every experiment -> the methods that have them."""
    shared = {field.name for field in dataclasses.fields(TrainConfig)}
    owners: dict[str, list[str]] = {}
    for method in methods.names():
        for name in methods.hyperparameters(method):
            if name not in shared:
                owners.setdefault(name, []).append(method)
    return owners


def _define_flags() -> None:
    define_flags()
    for name, owners in _own_hyperparameters().items():
        flags.DEFINE_string(name, None, f"of {', '.join(owners)}; see --method=help")


def _groups() -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for field in dataclasses.fields(TrainConfig):
        groups.setdefault(field.metadata["group"], []).append(field.name)
    groups["method"] += list(_own_hyperparameters())
    return groups
