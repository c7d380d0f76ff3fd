"""The benchmark of the input pipeline: how fast it is, and whether the devices wait for it."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import precision, results, step_flags, table
from benchmarks.method_work import METHODS
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.pipeline_sides import InputAlone, StepAlone
from benchmarks.timing import Spread, paired_ratio
from benchmarks.workload import NUM_CLASSES, Setting, train_config
from robustjax import models, parallel
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.runs.log import Row
from robustjax.training import create_experiment, train

DESCRIPTION = """\
Compares what the input pipeline delivers with what the train step takes, and with the real loop.

  python -m benchmarks pipeline --output=pipeline.json
  python -m benchmarks pipeline --model=cifar_resnet_8 --steps=1 --batch_size=32 --loop_steps=12

One call of the library's train() trains on synthetic images of CIFAR-10's size. After each of its
epochs two references are timed, so that all three take turns; the first round does not count.

  input  order, rows and sending of an epoch over all --images, to a program that only receives them
  step   the same train step back to back, on one batch that lies on the device
  loop   the steps of the epoch in train() itself, from the end of the first to the end of the last,
         as metrics.jsonl has them (images_per_second)

"input over step" is the one's images/s over the other's. "busy" is the time of a step alone over
that of a step in the loop: the share of the loop's time that the devices need for the steps.
Whatever they wait for lowers it, and on a CPU also what the host takes from them, since both share
the cores; moments in which a device idles could not be told there from those in which it is slowed
down. The loop's clock starts with two more steps on their way, so that of N steps at most
2 / (N - 1) of the waiting escapes it: take enough of them. Measuring and saving after an epoch are
not in it."""

GROUPS = {
    "what": ["model", "method", "steps", "precision"],
    "size": ["batch_size", "images", "loop_steps"],
    "run": ["rounds", "seed", "output"],
}

TARGETS = {"input_over_step": 20.0, "busy": 0.97}
"""The least that the medians should be."""

SIDE = 32
"""Height and width of CIFAR-10's images."""


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_string("model", "resnet_18", "the network")
    flags.DEFINE_string("method", "standard", f"one of {', '.join(METHODS)}")
    flags.DEFINE_integer("steps", 10, "of the attack, K")
    flags.DEFINE_string(
        "precision", None, f"one of {', '.join(precision.PRECISIONS)} [float32, on a GPU bfloat16]"
    )
    flags.DEFINE_integer("batch_size", 128, "images in a step")
    flags.DEFINE_integer("images", 50_000, "of the training set")
    flags.DEFINE_integer(
        "loop_steps", None, "steps of an epoch of the loop [on a CPU 16, else a pass over the set]"
    )
    flags.DEFINE_integer("rounds", 5, "epochs that count")
    flags.DEFINE_integer("seed", 0, "of the images, their order, the weights and the starts")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Measures what the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    for name in ("steps", "batch_size", "images", "rounds"):
        if values[name].value < 1:
            raise UserError(f"--{name}={values[name].value}: accepted are 1 or more")
    chosen = values.precision or precision.defaults()[-1]
    step_flags.require_known("precision", [chosen], precision.PRECISIONS)
    step_flags.require_known("method", [values.method], METHODS)
    try:
        models.create(values.model)
    except ValueError as error:
        raise UserError(f"--model={values.model}: {error}") from error
    most = values.images // values.batch_size
    loop_steps = values.loop_steps or (min(16, most) if jax.default_backend() == "cpu" else most)
    if not 2 <= loop_steps <= most:
        raise UserError(
            f"--loop_steps={loop_steps}: accepted are 2 to {most}, --images={values.images} in "
            f"batches of --batch_size={values.batch_size}"
        )
    precision.set_up(chosen)
    environment = results.environment()
    print(results.describe(environment), flush=True)
    setting = Setting(
        method=values.method,
        model=values.model,
        batch_size=values.batch_size,
        steps=values.steps,
        precision=chosen,
        image_size=SIDE,
        seed=values.seed,
    )
    with Neighbours() as neighbours:
        seconds = measure(setting, values.images, loop_steps, values.rounds)
    row = {
        **dataclasses.asdict(setting),
        "images": values.images,
        "loop_steps": loop_steps,
        **summary(values.batch_size, seconds),
        "cpu_share_of_others": neighbours.share,
    }
    results.write(values.output, environment, [row])
    print(table.markdown(HEADER, _entries(row)))
    if (neighbours.share or 0) > WORTH_A_WARNING:
        print("Other processes used the CPU meanwhile: these ratios are not to be trusted.")


def measure(setting: Setting, images: int, loop_steps: int, rounds: int) -> dict[str, list[float]]:
    """Trains, and times the references after every epoch.

    Args:
      setting: of the step.
      images: in the training set.
      loop_steps: steps of an epoch of the loop, on the first images of the set.
      rounds: epochs that count.

    Returns:
      "input", "step" and "loop" -> seconds per batch, of each round.
    """
    seconds: dict[str, list[float]] = {"input": [], "step": [], "loop": []}
    with tempfile.TemporaryDirectory() as folder:
        config = _config(setting, images, Path(folder))
        experiment, devices = create_experiment(config), parallel.local_devices(1)
        references = InputAlone(experiment, devices), StepAlone(experiment, devices)

        def after_epoch(row: Row) -> None:
            input_alone, step_alone = references
            found = {
                "input": input_alone.seconds(row["epoch"]),
                # As many as the loop has timed.
                "step": step_alone.seconds(loop_steps - 1),
                "loop": setting.batch_size / row["images_per_second"],
            }
            if row["epoch"] > 1:
                for name, value in found.items():
                    seconds[name].append(value)

        loop_config = dataclasses.replace(
            config,
            train_examples=loop_steps * setting.batch_size,
            epochs=rounds + 1,
            checkpoint_every=rounds + 1,
        )
        train(loop_config, stream=None, after_epoch=after_epoch)
    return seconds


def _config(setting: Setting, images: int, folder: Path) -> TrainConfig:
    """The options of a run on new synthetic images, in a folder."""
    random = np.random.default_rng(setting.seed)
    np.savez(
        folder / "images.npz",
        images=random.integers(0, 256, (images, setting.image_size, setting.image_size, 3), "u1"),
        labels=np.arange(images) % NUM_CLASSES,
        num_classes=NUM_CLASSES,
    )
    return dataclasses.replace(
        train_config(setting),
        data_dir=str(folder / "images.npz"),
        workdir=str(folder / "run"),
        augmentation="crop4-flip",
        measure_examples=setting.batch_size,
        measure_steps=1,
    )


def summary(batch_size: int, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Rates and ratios with their quartiles, and whether the ratios' medians meet the targets.

    Args:
      batch_size: images in a step.
      seconds: of `measure`.
    """
    ratios = {
        "input_over_step": paired_ratio(seconds["step"], seconds["input"]),
        "busy": paired_ratio(seconds["step"], seconds["loop"]),
    }
    rates = {
        f"{name}_images_per_second": batch_size / Spread.of(values).median
        for name, values in seconds.items()
    }
    return {
        "seconds": seconds,
        **rates,
        **{name: dataclasses.asdict(ratio) for name, ratio in ratios.items()},
        "met": {name: ratio.median >= TARGETS[name] for name, ratio in ratios.items()},
    }


HEADER = ("what", "median", "quartiles", "target")


def _entries(row: dict[str, Any]) -> list[list[str]]:
    """The rows of the table."""
    entries = [
        [f"{name} images/s", f"{row[f'{name}_images_per_second']:,.0f}", "-", "-"]
        for name in ("input", "step", "loop")
    ]
    for name, factor, unit in (("input_over_step", 1, ""), ("busy", 100, " %")):
        spread = Spread(**row[name]).times(factor)
        quartiles = f"{spread.lower_quartile:.1f} to {spread.upper_quartile:.1f}"
        verdict = "met" if row["met"][name] else "missed"
        target = f"{factor * TARGETS[name]:g}{unit} {verdict}"
        entries.append([name.replace("_", " "), f"{spread.median:.1f}{unit}", quartiles, target])
    return entries
