"""The benchmark of compilation: lowering and compiling a train step, and starting the command."""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import precision, results, starts, step_flags, table
from benchmarks.method_work import METHODS
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.workload import NUM_CLASSES, Setting, train_config
from robustjax import parallel
from robustjax.errors import UserError
from robustjax.training.experiment import Experiment, create_experiment
from robustjax.training.step import RawBatch

DESCRIPTION = """\
Times lowering and compiling a train step, and a first and a second start of launch/train.py.

  python -m benchmarks compilation --output=compilation.json
  python -m benchmarks compilation --models=wide_resnet_16_4 --methods=standard,trades --rounds=3
  python -m benchmarks compilation --models= --start_models=resnet_18

The step is lowered from shapes alone, for one device, and compiled without the persistent cache; no
step is taken. A start is a process of its own: from its beginning to the end of its first step. The
first start finds an empty cache, the second what the first has left there. Programs that compile
in less than a second JAX does not keep."""

GROUPS = {
    "step": ["models", "methods", "batch_size", "steps", "precision", "rounds"],
    "start": ["start_models", "start_batch_size", "start_steps"],
    "run": ["output"],
}

TARGETS = {"step": 20.0, "second start": 10.0}
"""Seconds, on two cores: to lower and compile WRN-34-10 TRADES, and to make the first step."""

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("models", ["wide_resnet_34_10"], "networks whose step is compiled")
    flags.DEFINE_list("methods", ["trades"], f"any of {', '.join(METHODS)}")
    flags.DEFINE_integer("batch_size", 128, "of the step that is compiled")
    flags.DEFINE_integer("steps", 10, "of its attack, K")
    flags.DEFINE_string("precision", "float32", "float32 or bfloat16")
    flags.DEFINE_integer("rounds", 1, "how often it is compiled; the median counts")
    flags.DEFINE_list("start_models", ["digits_cnn"], "networks that launch/train.py is started on")
    flags.DEFINE_integer("start_batch_size", 128, "of those starts")
    flags.DEFINE_integer("start_steps", 10, "of the attack in those starts")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Measures everything that the flags ask for; prints tables, and writes them as JSON."""
    values = flags.FLAGS
    for name in ("batch_size", "steps", "rounds", "start_batch_size", "start_steps"):
        if values[name].value < 1:
            raise UserError(f"--{name}={values[name].value}: accepted are 1 or more")
    step_flags.require_known("methods", values.methods, METHODS)
    step_flags.require_known("precision", [values.precision], ("float32", "bfloat16"))
    precision.set_up(values.precision)
    jax.config.update("jax_enable_compilation_cache", False)
    environment = results.environment()
    print(results.describe(environment), flush=True)
    rows: list[Row] = []
    for model in filter(None, values.models):
        for method in values.methods:
            setting = Setting(method, model, values.batch_size, values.steps, values.precision)
            with Neighbours() as neighbours:
                row = {"what": "step", **dataclasses.asdict(setting)}
                row |= compiled(setting, values.rounds)
            rows.append({**row, "cpu_share_of_others": neighbours.share})
            results.write(values.output, environment, rows)
    for model in filter(None, values.start_models):
        options = {"batch_size": values.start_batch_size, "steps": values.start_steps}
        found = starts.twice(model, method=values.methods[0], **options)
        for what, seen in zip(("first start", "second start"), found, strict=True):
            rows.append({"what": what, "model": model, "method": values.methods[0], **options})
            rows[-1] |= seen
        results.write(values.output, environment, rows)
    print(table.markdown(HEADER, [_entries(row) for row in rows]))
    if any((row.get("cpu_share_of_others") or 0) > WORTH_A_WARNING for row in rows):
        print("Other processes used the CPU meanwhile: alone, this takes less.")


def compiled(setting: Setting, rounds: int) -> dict[str, Any]:
    """Medians of the seconds that tracing and lowering take, compiling, and of CPU time for both.

    On a busy machine the CPU time, of all threads, says more.
    """
    experiment = experiment_of(setting)
    seconds = []
    for _ in range(rounds):
        jax.clear_caches()
        # A new function each time: pmap would remember the last one's program.
        step, arguments = abstract_step(experiment, setting)
        cpu_started, started = time.process_time(), time.perf_counter()
        lowered = step.lower(*arguments)
        between = time.perf_counter()
        lowered.compile()
        ended, cpu_ended = time.perf_counter(), time.process_time()
        seconds.append((between - started, ended - between, cpu_ended - cpu_started))
    lower, compile_, cpu = (float(np.median(part)) for part in zip(*seconds, strict=True))
    return {
        "lower_seconds": lower,
        "compile_seconds": compile_,
        "seconds": float(np.median([sum(both[:2]) for both in seconds])),
        "cpu_seconds": cpu,
        "seconds_of_rounds": seconds,
    }


def abstract_step(experiment: Experiment, setting: Setting) -> tuple[Any, tuple[Any, ...]]:
    """The mapped train step, not compiled, and the shapes of its arguments on one device."""
    side, total = setting.image_size, setting.batch_size
    batch = RawBatch(
        images=jax.ShapeDtypeStruct((total, side, side, 3), np.uint8),
        labels=jax.ShapeDtypeStruct((total,), np.int32),
        index=jax.ShapeDtypeStruct((total,), np.int32),
        weight=jax.ShapeDtypeStruct((total,), np.float32),
    )
    state = jax.eval_shape(experiment.initial_state)
    state, batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), (state, batch)
    )
    scalars = {name: np.float32(value) for name, value in experiment.scalars_at(0).items()}
    step = experiment.train_step(parallel.local_devices(1))
    return step, (state, batch, scalars, jax.random.key(setting.seed))


def experiment_of(setting: Setting) -> Experiment:
    """The experiment of `launch/train.py` on images of which only the shape matters."""
    side, total = setting.image_size, setting.batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        labels = np.arange(total) % NUM_CLASSES
        images = np.zeros((total, side, side, 3), np.uint8)
        np.savez(path, images=images, labels=labels, num_classes=NUM_CLASSES)
        return create_experiment(dataclasses.replace(train_config(setting), data_dir=str(path)))


HEADER = (
    "what", "network", "method", "batch", "K", "lowering s", "compiling s", "in all s", "CPU s",
    "target s", "programs", "from the cache",
)  # fmt: skip


def _entries(row: Row) -> list[str]:
    """One row of the table."""
    target = TARGETS.get(row["what"])
    lower = row.get("lower_seconds")
    return [
        row["what"],
        row["model"],
        row["method"],
        str(row["batch_size"]),
        str(row["steps"]),
        "-" if lower is None else f"{lower:.1f}",
        f"{row['compile_seconds']:.1f}",
        f"{row['seconds']:.1f}",
        f"{row['cpu_seconds']:.1f}" if "cpu_seconds" in row else "-",
        "-" if target is None else f"{target:g} {'met' if row['seconds'] <= target else 'missed'}",
        str(row.get("programs", 1)),
        str(row.get("from_cache", "-")),
    ]
