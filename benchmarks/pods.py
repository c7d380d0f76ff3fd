"""The train step compiled for chips that are not there, and what the compiler says of it."""

import importlib.metadata
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from absl import flags

from benchmarks import results, step_flags
from benchmarks.ahead_of_time import apart, report, steps, targets, worker
from benchmarks.ahead_of_time.steps import KEY, Row
from robustjax import models
from robustjax.errors import UserError
from robustjax.files import require_writable
from robustjax.training.step import microbatch

DESCRIPTION = """\
Compiles the train step for TPUs and GPUs that are not there: memory, arithmetic, sums, seconds.

  python -m benchmarks pods --output=pods.json
  python -m benchmarks pods --targets=v4-256,v5e-256 --methods=fat_trades --output=pods.json
  python -m benchmarks pods --targets=h100-1,h100-8 --output=pods.json
  python -m benchmarks pods --table --output=pods.json       prints what is there
  python -m benchmarks pods --rehearse                       one small network

The extra "tpu" brings the compiler for TPU slices of any size, the extra "cuda" that for machines
of H100s; neither needs the device. The step is the library's own, mapped over the devices as
training maps it. Nothing is run: the milliseconds are the least that the arithmetic allows, and for
TPUs what the compiler expects. All figures are of one chip. A slice's name counts cores on v4 and
v5p, two a chip: v4-256 has 128 chips, which are 128 devices in JAX. h100-8 is a machine of eight
GPUs.

Each step is compiled in a process of its own, in minutes, and its row is written at once; the same
command compiles what is missing, and tries again what failed."""

GROUPS = {
    "what": ["rehearse", "table", "targets", "models", "methods", "precision", "options"],
    "size": ["batch_per_chip", "steps", "image_size"],
    "run": ["longest", "programs", "output"],
}

REHEARSAL = {
    "targets": ["v5e-4"],
    "models": ["cifar_resnet_8"],
    "methods": ["trades"],
    "precision": ["bfloat16"],
    "options": ["plain"],
    "batch_per_chip": ["8"],
    "steps": 2,
    "image_size": 8,
}


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    text = "one small step in place of what is asked for; for v5e-4 unless --targets says another"
    flags.DEFINE_bool("rehearse", False, text)
    flags.DEFINE_bool("table", False, "print the table of what lies in --output; compile nothing")
    flags.DEFINE_list("targets", ["v4-256"], f"such as {', '.join(_EXAMPLES)}")
    flags.DEFINE_list("models", ["wide_resnet_34_10"], "networks")
    flags.DEFINE_list("methods", ["trades"], f"any of {', '.join(steps.STEPS_OF_METHODS)}")
    flags.DEFINE_list("precision", ["bfloat16"], f"any of {', '.join(steps.PRECISIONS)}")
    flags.DEFINE_list(
        "options",
        ["plain"],
        "what saves memory: plain, remat, microbatch=N (images a chip), microbatch=N+remat",
    )
    flags.DEFINE_list("batch_per_chip", ["32", "128"], "images of a step on each chip")
    flags.DEFINE_integer("steps", 10, "steps of the attack, K", lower_bound=1)
    flags.DEFINE_integer("image_size", 32, "height and width of the images", lower_bound=8)
    flags.DEFINE_float("longest", 3600.0, "seconds that a step may take to compile", lower_bound=1)
    flags.DEFINE_string("programs", "", "folder for the compiled programs' text; none if not given")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


_EXAMPLES = ("v4-8", "v4-256", "v4-2048", "v5e-16", "v5e-256", "v5p-8", "v6e-8", "h100-8")


def main() -> None:
    """Compiles what the flags ask for and is not there yet; prints the tables."""
    values = flags.FLAGS
    if values.rehearse:
        for name, value in REHEARSAL.items():
            if name != "targets" or not values[name].present:
                values[name].value = value
    known = read(values.output)
    if values.table:
        if not known:
            raise UserError(f"--output={values.output}: there are no rows of an earlier call in it")
        print(report.markdown(known))
        return
    wanted = _wanted()
    for target in values.targets:
        targets.require_compiler(targets.parse(target))
    apart.leave_devices_alone()
    if values.output:
        require_writable(Path(values.output).absolute().parent, f"--output={values.output}")
    environment = results.environment()
    print(results.describe(environment), flush=True)

    def keep(rows: list[Row]) -> None:
        print("  " + "  ".join(report.entries(rows[-1])), flush=True)
        results.write(values.output, environment, rows)

    rows = compile_missing(
        known, wanted, lambda task: _compiled(task, values.longest, values.programs), keep
    )
    asked = [row for task in wanted if (row := _find(rows, task)) is not None]
    print(report.markdown(asked))
    failed = [row for row in asked if "failed" in row]
    if failed:
        names = "; ".join(f"{row['target']} {row['model']}: {row['failed']}" for row in failed)
        raise UserError(f"{len(failed)} of {len(asked)} steps did not compile: {names}")


def compile_missing(
    known: Sequence[Row],
    wanted: Sequence[Row],
    compile_step: Callable[[Row], Row],
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    """Compiles the wanted steps that are not known, or that failed.

    Args:
      known: rows of earlier calls.
      wanted: the steps, rows without results.
      compile_step: gives a step's results.
      keep: gets all rows, the newest last, as soon as there is a new one.

    Returns:
      All rows.
    """
    rows = list(known)
    for task in wanted:
        done = _find(rows, task)
        if done is not None and "failed" not in done:
            continue
        rows = [row for row in rows if row is not done] + [task | compile_step(task)]
        keep(rows)
    return rows


def read(path: str) -> list[Row]:
    """The rows of an earlier call; none if there is no such file.

    Raises:
      UserError: the file is no such results.
    """
    if not path or not Path(path).exists():
        return []
    try:
        rows = json.loads(Path(path).read_text())["rows"]
        ours = all({*KEY, "versions"} <= set(row) for row in rows)
        ours &= all("estimated_cycles" in row for row in rows if "flops" in row)
    except (ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise UserError(f"--output={path}: no file of this benchmark as it is now; name a new one")
    return rows


def _wanted() -> list[Row]:
    """What the flags ask for: a row each, without what is to be found."""
    values = flags.FLAGS
    step_flags.require_known("methods", values.methods, steps.STEPS_OF_METHODS)
    step_flags.require_known("precision", values.precision, steps.PRECISIONS)
    for model in values.models:
        models.describe(model)
    sizes = _batches(values.batch_per_chip)
    for option, size in itertools.product(values.options, sizes):
        microbatch.require_divisor(steps.parse_options(option).get("microbatch", 0), size)
    found = []
    for target, *rest in itertools.product(
        map(targets.parse, values.targets),
        values.models,
        values.methods,
        values.precision,
        sizes,
        values.options,
    ):
        chosen = dict(zip(KEY[1:6], rest, strict=True))
        found.append(
            {
                "target": target.name,
                **chosen,
                "steps": values.steps,
                "image_size": values.image_size,
                "versions": versions(target),
            }
        )
    return found


def _batches(given: Sequence[str]) -> list[int]:
    try:
        sizes = [int(size) for size in given]
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise UserError(f"--batch_per_chip={','.join(given)}: accepted are whole numbers from 1 on")
    return sizes


def versions(target: targets.Target) -> dict[str, str]:
    """Of what makes its program: another version's row is another row."""
    packages = ("jax", "jaxlib", *target.packages)
    return {name: importlib.metadata.version(name) for name in packages if targets.installed(name)}


def _find(rows: Iterable[Row], task: Row) -> Row | None:
    names = (*KEY, "versions")
    return next((row for row in rows if all(row[name] == task[name] for name in names)), None)


def _compiled(task: Row, longest: float, programs: str) -> Row:
    """What the compiler says of a step, or why it says nothing."""
    path = ""
    if programs:
        Path(programs).mkdir(parents=True, exist_ok=True)
        path = str(Path(programs).absolute() / ("_".join(str(task[name]) for name in KEY) + ".txt"))
    work = {
        "target": task["target"],
        "config": steps.config(task),
        "image_size": task["image_size"],
        "program": path,
    }
    return apart.call(worker.__name__, work, longest)
