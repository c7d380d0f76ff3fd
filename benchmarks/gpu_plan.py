"""A lent GPU's minutes: everything that is to be known of it, the most useful first."""

import os
import signal
import tempfile
from pathlib import Path
from types import FrameType

import jax
import numpy as np
from absl import flags

from benchmarks import results
from benchmarks.plan import image_parts, report, runner
from benchmarks.plan.records import Records
from benchmarks.plan.steps import Place, steps
from robustjax import data, files
from robustjax.data import Dataset
from robustjax.errors import UserError

DESCRIPTION = """\
Uses a lent GPU's minutes in order of worth, keeps every result at once, and goes on where it was.

  python -m benchmarks gpu_plan --pack --data_dir=DIR --output=parts      where the data lies
  python -m benchmarks gpu_plan --data_dir=parts --output=DIR --minutes=8 where the GPU is
  python -m benchmarks gpu_plan --output=DIR --table                      anywhere, afterwards
  python -m benchmarks gpu_plan --rehearse                                tiny, on the CPU

Correctness beside the CPU, the training step beside PyTorch, early stopping, memory, the speed run,
AutoAttack, and whether runs repeat bit for bit: each a command of this repository, whose results
are copied to --output while it runs. What does not fit into the minutes is left out, and said; the
same command does what is missing. --output gets at most eight small files; delete one to measure
its step anew."""

GROUPS = {
    "what": ["rehearse", "pack", "table"],
    "where": ["data_dir", "output", "earlier", "work_dir"],
    "run": ["minutes"],
}

TABLE = "table.md"

_REHEARSAL_OVERRUN = 100.0
"""In a rehearsal nothing is ended early: the CPU may be busy."""


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_bool("rehearse", False, "every step at a tiny size, on the CPU")
    flags.DEFINE_bool("pack", False, "write CIFAR-10 from --data_dir into parts in --output")
    flags.DEFINE_bool("table", False, "print the table of what lies in --output; measure nothing")
    flags.DEFINE_string(
        "data_dir", "", "with --pack the prepared data sets; else some of the parts, or none"
    )
    flags.DEFINE_string("output", "", "folder of the results [$OUT, or gpu_plan]")
    flags.DEFINE_string(
        "earlier", "", "folder of an earlier call's results, where --output begins empty"
    )
    flags.DEFINE_string(
        "work_dir", "", "local folder for data, runs and programs [in the system's for such files]"
    )
    flags.DEFINE_float("minutes", 15.0, "that this call may take; 0: it only takes in the parts")


def main() -> None:
    """Packs the images, prints the table, or carries the plan out."""
    values = flags.FLAGS
    output = Path(values.output or os.environ.get("OUT") or "gpu_plan")
    if values.pack:
        _pack(values.data_dir, output)
        return
    if not values.minutes >= 0:
        raise UserError(f"--minutes={values.minutes:g}: accepted are 0 or more")
    place = Place.here(_work_folder(values.work_dir, values.rehearse), values.rehearse)
    records, plan = Records(output), steps(place)
    left_out: dict[str, str] = {}
    if not values.table:
        files.require_writable(output, f"--output={output}")
        _go_on_from(values.earlier, output)
        _take_in(place, values.data_dir)
        left_out = _carry_out(place, records, values.minutes)
    text = report.markdown(plan, records, left_out, rehearsed=values.rehearse)
    if not values.table:
        files.write_whole(output / TABLE, text)
    print(text)


def _carry_out(place: Place, records: Records, minutes: float) -> dict[str, str]:
    if minutes and not place.rehearse:
        print(results.describe(results.environment()), flush=True)
        if jax.default_backend() != "gpu":
            raise UserError("there is no GPU here; --rehearse tries the plan on the CPU")
    # So that a command ends with this process: the signal becomes an exception.
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return runner.carry_out(
            steps(place),
            records,
            minutes=minutes,
            run=runner.run_command,
            overrun=_REHEARSAL_OVERRUN if place.rehearse else runner.OVERRUN,
            say=lambda text: print(text, flush=True),
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _go_on_from(earlier: str, output: Path) -> None:
    """Copies the results of an earlier call, but for those that are there already."""
    if earlier and not Path(earlier).is_dir():
        raise UserError(f"--earlier={earlier}: there is no such folder of results")
    for path in sorted(Path(earlier).glob("*.json")) if earlier else ():
        if not (output / path.name).exists():
            files.write_whole(output / path.name, path.read_bytes())


def _work_folder(given: str, rehearse: bool) -> Path:
    if given:
        return Path(given).resolve()
    name = f"robustjax_gpu_plan_{os.getuid()}{'_rehearsal' if rehearse else ''}"
    return Path(tempfile.gettempdir()) / name


def _take_in(place: Place, folder: str) -> None:
    """Brings the parts into the store, and says what is still missing."""
    if place.rehearse and image_parts.missing(place.store):
        image_parts.pack(_random_images(), place.work / "parts")
        folder = folder or str(place.work / "parts")
    if folder and not Path(folder).is_dir():
        raise UserError(f"--data_dir={folder}: there is no such folder of parts")
    if folder:
        image_parts.take_in(Path(folder), place.store)
    lacking = image_parts.missing(place.store)
    print(f"images: {', '.join(lacking)} still missing" if lacking else "images: all there")


def _random_images() -> dict[str, Dataset]:
    """Images as CIFAR-10 has them, a few, for the rehearsal."""
    random = np.random.default_rng(0)

    def some(count: int) -> Dataset:
        images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        return Dataset("npz", images, np.arange(count, dtype=np.int32) % 10, 10)

    return {"train": some(64), "test": some(16)}


def _pack(data_dir: str, output: Path) -> None:
    files.require_writable(output, f"--output={output}")
    sets = {
        split: data.load("cifar10", split, data_dir=data_dir or None) for split in image_parts.PARTS
    }
    for path in image_parts.pack(sets, output):
        part = image_parts.read(path)
        images = len(part["labels"])
        print(f"{path}: {images} images, {path.stat().st_size / 2**20:.1f} MiB, {part['digest']}")
