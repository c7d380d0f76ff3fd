"""The benchmark of memory: what the compiled train step needs, with and without its savings."""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from benchmarks import precision, results, step_flags, table
from benchmarks.timing import Side, alternate, paired_ratio
from robustjax import methods, parallel
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.models import flops
from robustjax.training.experiment import Experiment, create_experiment
from robustjax.training.step import RawBatch

DESCRIPTION = """\
Says how much memory the compiled train step needs: plain, with --remat, and with --microbatch.

  python -m benchmarks memory --output=memory.json
  python -m benchmarks memory --models=resnet_18 --methods=standard,mart --microbatch=64,32

The library's own train step is made from the options of launch/train.py and compiled for this
platform, but not run: the figures are those of XLA's plan of the device's memory. The peak is
arguments, outputs (where they do not take the place of arguments) and temporaries. Work is the
step's convolutions and matrix products beside those of the plain step, not its time. XLA plans each
platform's memory in another way: compile where the training is to run. With --rounds the steps are
run too, in turns, on random images."""

GROUPS = {
    "what": ["models", "methods", "precision", "microbatch"],
    "size": ["batch_size", "steps", "image_size"],
    "run": ["rounds", "output"],
}

Row = dict[str, Any]
NUM_CLASSES = 10
MEBIBYTE = 2**20


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("models", ["wide_resnet_34_10"], "networks")
    flags.DEFINE_list("methods", ["trades"], "training methods")
    flags.DEFINE_list(
        "precision", None, f"any of {', '.join(precision.PRECISIONS)} [float32, on a GPU tf32]"
    )
    flags.DEFINE_list("microbatch", None, "sizes of the parts of the batch [a quarter of it]")
    flags.DEFINE_integer("batch_size", 128, "images in a step")
    flags.DEFINE_integer("steps", 10, "steps of the attack, K")
    flags.DEFINE_integer("image_size", 32, "height and width of the images")
    flags.DEFINE_integer("rounds", 0, "how often each step is run; 0: it is compiled alone")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Compiles everything that the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    kinds = values.precision or [precision.defaults()[0]]
    step_flags.require_known("precision", kinds, precision.PRECISIONS)
    step_flags.require_known("methods", values.methods, methods.names())
    environment = results.environment()
    print(results.describe(environment), flush=True)
    rows: list[Row] = []
    for kind, network, method in itertools.product(kinds, values.models, values.methods):
        precision.set_up(kind)
        try:
            plain = _config(kind, network, method)
            configs = (plain, *_savings(plain))
            sides = {}
            for config in configs:
                compiled = compile_step(config, values.image_size)
                rows.append(compiled.row | {"precision": kind})
                print("  " + "  ".join(entries(rows[-1], rows)), flush=True)
                results.write(values.output, environment, rows)
                if values.rounds:
                    sides[len(rows) - 1] = _side(compiled)
            if values.rounds:
                for number, seconds in alternate(sides, values.rounds).items():
                    rows[number]["seconds_of_rounds"] = seconds
                results.write(values.output, environment, rows)
        except ValueError as error:
            raise UserError(str(error)) from error
    print(table.markdown(HEADER, [entries(row, rows) for row in rows]))


class CompiledStep(NamedTuple):
    """The mapped train step of an experiment.

    Attributes:
      row: the memory, in bytes, that XLA plans for it, and its work.
      step: takes what `Experiment.train_step` does.
      experiment: whose step it is.
    """

    row: Row
    step: Callable[..., Any]
    experiment: Experiment


def measure(config: TrainConfig, image_size: int) -> Row:
    """The memory, in bytes, that XLA plans for the train step of an experiment, and its work.

    Nothing is run, and no weights are made.

    Args:
      config: the experiment; its data set is not looked at.
      image_size: height and width of the images.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    return compile_step(config, image_size).row


def compile_step(config: TrainConfig, image_size: int) -> CompiledStep:
    """Compiles the train step; arguments and errors are those of `measure`."""
    lowered, work, experiment = lower_step(config, image_size, parallel.local_devices(1))
    compiled = lowered.compile()
    row = {
        "model": config.model,
        "method": config.method,
        "batch_size": config.batch_size,
        "steps": config.steps,
        "remat": config.remat,
        "microbatch": config.microbatch,
        **planned(compiled),
        "flops": work,
    }
    return CompiledStep(row, compiled, experiment)


class LoweredStep(NamedTuple):
    """The mapped train step of an experiment, not compiled yet.

    Attributes:
      lowered: the step for the devices that it was mapped over.
      flops: of a device's convolutions and matrix products, as the step is traced.
      experiment: whose step it is.
    """

    lowered: jax.stages.Lowered
    flops: int
    experiment: Experiment


def lower_step(config: TrainConfig, image_size: int, devices: Sequence[jax.Device]) -> LoweredStep:
    """Lowers the train step as training maps it, for devices that need not be there.

    Args:
      config: the experiment, with the batch of all devices; its data set is not looked at.
      image_size: height and width of the images.
      devices: that share the batch.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    experiment = _experiment(config, image_size)
    step, arguments = experiment.train_step(devices), _arguments(experiment, len(devices))
    return LoweredStep(step.lower(*arguments), flops.count(step, *arguments), experiment)


def planned(compiled: jax.stages.Compiled) -> dict[str, int]:
    """The bytes of a device's memory that XLA plans for a compiled step."""
    plan = compiled.memory_analysis()
    outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return {
        "argument_bytes": plan.argument_size_in_bytes,
        "output_bytes": outputs,
        "temporary_bytes": plan.temp_size_in_bytes,
        "peak_bytes": plan.argument_size_in_bytes + outputs + plan.temp_size_in_bytes,
    }


def _arguments(experiment: Experiment, devices: int) -> tuple[Any, ...]:
    """The shapes of the arguments of an experiment's mapped step."""
    rows = parallel.per_device_batch(experiment.config.batch_size, devices)
    batch = RawBatch(
        images=np.zeros((rows, *experiment.train_set.images.shape[1:]), np.uint8),
        labels=np.zeros(rows, np.int32),
        index=np.zeros(rows, np.int32),
        weight=np.zeros(rows, np.float32),
    )
    mapped = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((devices, *leaf.shape), leaf.dtype),
        (jax.eval_shape(experiment.initial_state), batch),
    )
    scalars = {name: np.float32(value) for name, value in experiment.scalars_at(0).items()}
    return (*mapped, scalars, jax.eval_shape(lambda: jax.random.key(experiment.config.seed)))


def _side(compiled: CompiledStep) -> Side:
    """The step on random images, from the experiment's first state on."""
    experiment = compiled.experiment
    rows, random = experiment.config.batch_size, np.random.default_rng(experiment.config.seed)
    batch = RawBatch(
        images=random.integers(0, 256, (rows, *experiment.train_set.images.shape[1:]), np.uint8),
        labels=np.arange(rows, dtype=np.int32) % NUM_CLASSES,
        index=np.arange(rows, dtype=np.int32),
        weight=np.ones(rows, np.float32),
    )
    mapped = parallel.split_over_devices(batch, 1)
    scalars = {name: np.float32(value) for name, value in experiment.scalars_at(0).items()}
    key = jax.random.key(experiment.config.seed)
    state = parallel.replicate(experiment.initial_state(), parallel.local_devices(1))

    def run() -> None:
        nonlocal state
        state, loss = compiled.step(state, mapped, scalars, key)
        jax.block_until_ready((state, loss))

    return Side(run)


def _experiment(config: TrainConfig, image_size: int) -> Experiment:
    """The experiment, on one batch of black images."""
    rows = config.batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(
            path,
            images=np.zeros((rows, image_size, image_size, 3), np.uint8),
            labels=np.arange(rows) % NUM_CLASSES,
            num_classes=NUM_CLASSES,
        )
        config = dataclasses.replace(config, dataset="npz", holdout=0, data_dir=str(path))
        return create_experiment(config)


def _config(kind: str, network: str, method: str) -> TrainConfig:
    """The options of `launch/train.py`; what is not given is its default."""
    values = flags.FLAGS
    return TrainConfig(
        method=method,
        model=network,
        steps=values.steps,
        batch_size=values.batch_size,
        precision="bfloat16" if kind == "bfloat16" else "float32",
        schedule="constant",
        devices=1,
    )


def _savings(plain: TrainConfig) -> list[TrainConfig]:
    """The same experiment with what saves memory."""
    given = flags.FLAGS.microbatch or [str(max(plain.batch_size // 4, 1))]
    try:
        sizes = [int(size) for size in given]
    except ValueError:
        raise UserError(f"--microbatch={','.join(given)}: accepted are whole numbers") from None
    in_parts = [dataclasses.replace(plain, microbatch=size) for size in sizes]
    return [
        dataclasses.replace(plain, remat=True),
        *in_parts,
        *(dataclasses.replace(config, remat=True) for config in in_parts),
    ]


HEADER = (
    "network", "method", "precision", "options", "arguments, MiB", "outputs", "temporaries",
    "peak", "of the plain peak", "work", "time",
)  # fmt: skip


def entries(row: Row, rows: list[Row]) -> list[str]:
    """One row of the table."""
    same = ("model", "method", "precision")
    plain = next(other for other in rows if all(other[name] == row[name] for name in same))
    options = [f"--microbatch={row['microbatch']}"] * bool(row["microbatch"])
    options += ["--remat"] * row["remat"]
    names = ("argument_bytes", "output_bytes", "temporary_bytes", "peak_bytes")
    return [
        *(row[name] for name in same),
        " ".join(options) or "plain",
        *(f"{row[name] / MEBIBYTE:.1f}" for name in names),
        f"{100 * row['peak_bytes'] / plain['peak_bytes']:.0f} %",
        f"{row['flops'] / plain['flops']:.2f}",
        _time(row, plain),
    ]


def _time(row: Row, plain: Row) -> str:
    """The time of a step over the plain one's."""
    if "seconds_of_rounds" not in row:
        return "-"
    ratio = paired_ratio(row["seconds_of_rounds"], plain["seconds_of_rounds"])
    return f"{ratio.median:.2f}"
