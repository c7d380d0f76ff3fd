"""The benchmark of scaling: more devices and processes, the same work for each of them."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

from absl import flags

from benchmarks import results, step_flags, table
from benchmarks.method_work import METHODS
from benchmarks.neighbours import WORTH_A_WARNING
from benchmarks.timing import Spread, paired_ratio
from benchmarks.workload import Setting
from robustjax.errors import UserError

DESCRIPTION = """\
Times a train step on 1, 2, 4, 8 CPU devices and in 2, 4 processes, the work per device constant.

  python -m benchmarks scaling --output=scaling.json
  python -m benchmarks scaling --model=wide_resnet_16_4 --devices=1,4 --processes=2,4 --rounds=9

On one machine all devices share the cores, so that more of them can be no faster: what matters is
how much is lost. The reference of D devices is therefore the same batch on one device of the same
process, in turns; efficiency is that one's time over theirs, 100 % if sharing the batch costs
nothing. (It can be more: XLA's convolutions on CPU are faster on small batches.) Processes have one
device each; their reference is the measurement of one device in the process before.

After one step from the same state the weights of all of them must agree to 1e-5, with global batch
norm and an attack in l2 (in linf, the sign of a gradient that is 0 but for rounding moves a pixel
either way); and the all-reduces of the compiled program must hold as many bytes as the weights and
the batch norms' statistics say. Where one process fails, the others are ended at once."""

GROUPS = {
    "what": ["model", "method", "steps", "batch_per_device", "image_size"],
    "where": ["devices", "processes"],
    "run": ["rounds", "seed", "output"],
}

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-5
"""How far a weight may be off after one step."""
LONGEST = 1800.0
"""Seconds that the processes of one measurement may take."""

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_string("model", "cifar_resnet_8", "the network")
    flags.DEFINE_string("method", "standard", f"one of {', '.join(METHODS)}")
    flags.DEFINE_integer("steps", 2, "of the attack, K")
    flags.DEFINE_integer("batch_per_device", 8, "images on each device")
    flags.DEFINE_integer("image_size", 32, "height and width of the images")
    flags.DEFINE_list("devices", ["1", "2", "4", "8"], "CPU devices of one process")
    flags.DEFINE_list("processes", ["2", "4"], "processes with one device each; empty: none")
    flags.DEFINE_integer("rounds", 5, "how often each is timed")
    flags.DEFINE_integer("seed", 0, "of the weights, the images and the random starts")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Measures everything that the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    step_flags.require_known("method", [values.method], METHODS)
    devices, processes = (_numbers(name) for name in ("devices", "processes"))
    environment = results.environment()
    print(results.describe(environment), flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        # Processes are compared with one process that has as many devices.
        for count in sorted({1, *devices, *processes}):
            rows.append(_measured(count, 1, Path(folder)))
            results.write(values.output, environment, rows)
            if count in processes and count > 1:
                rows.append(_measured(count, count, Path(folder), alone=rows[-1]))
                results.write(values.output, environment, rows)
    print(table.markdown(HEADER, [_entries(row, rows[0]) for row in rows]))
    if any((row["cpu_share_of_others"] or 0) > WORTH_A_WARNING for row in rows):
        print("Other processes used the CPU meanwhile: these ratios are not to be trusted.")
    wrong = [row for row in rows if not row["agrees"]]
    if wrong:
        names = ", ".join(f"{row['devices']} devices in {row['processes']}" for row in wrong)
        raise UserError(f"a step differs by more than {TOLERANCE:g}, or in its bytes: {names}")


def _measured(count: int, processes: int, folder: Path, alone: Row | None = None) -> Row:
    """The row of `count` devices, all in one process or each in its own."""
    values = flags.FLAGS
    setting = Setting(
        method=values.method,
        model=values.model,
        batch_size=count * values.batch_per_device,
        steps=values.steps,
        image_size=values.image_size,
        seed=values.seed,
    )
    task = {
        "setting": dataclasses.asdict(setting),
        "devices": count // processes,
        "processes": processes,
        "address": f"localhost:{_free_port()}",
        "rounds": values.rounds,
        "weights": str(folder / f"{count}.npz"),
    }
    found = run([{**task, "process": number} for number in range(processes)])
    row = {**dataclasses.asdict(setting), "devices": count, "processes": processes, **found[0]}
    return row | summary(row, alone)


def summary(row: Row, alone: Row | None = None) -> Row:
    """Speed, efficiency, and whether the step is as it should be.

    Args:
      row: what the worker found.
      alone: the row whose one device did the same work, where the worker did not itself.
    """
    shared = row["seconds"]["shared"]
    reference = row["seconds"].get("alone", shared)
    efficiency = paired_ratio(reference, shared)
    if alone is not None:
        reference = alone["seconds"].get("alone", alone["seconds"]["shared"])
        efficiency = paired_ratio([Spread.of(reference).median] * len(shared), shared)
    near = row.get("difference", 0.0) <= TOLERANCE
    return {
        "images_per_second": row["batch_size"] / Spread.of(shared).median,
        "efficiency": dataclasses.asdict(efficiency),
        "agrees": near and row["all_reduced_bytes"] == row["expected_bytes"],
    }


def run(tasks: list[Row], longest: float = LONGEST) -> list[Row]:
    """Runs the processes of one measurement together, and reads what each has found.

    Args:
      tasks: one a process.
      longest: seconds after which they are ended.

    Raises:
      UserError: one of them fails, with what it said last; or they take too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = [(Path(folder) / f"{number}.out").open("w+") for number in range(len(tasks))]
        errors = [(Path(folder) / f"{number}.err").open("w+") for number in range(len(tasks))]
        workers = [_start(*started) for started in zip(tasks, said, errors, strict=True)]
        try:
            failed = _first_failure(workers, longest)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        texts = [[_text(file) for file in files] for files in (said, errors)]
    if failed is not None:
        raise UserError(f"process {failed} of the run failed:\n{texts[1][failed][-2000:]}")
    return [json.loads(output.splitlines()[-1]) for output in texts[0]]


def _first_failure(workers: list[subprocess.Popen], longest: float) -> int | None:
    """Waits until all have ended well (None), or one has not: the others would wait for it."""
    until = time.monotonic() + longest
    while time.monotonic() < until:
        codes = [worker.poll() for worker in workers]
        failed = [number for number, code in enumerate(codes) if code]
        if failed:
            return failed[0]
        if None not in codes:
            return None
        time.sleep(0.05)
    raise UserError(f"{len(workers)} processes have not ended after {longest:g} s")


def _text(file: TextIO) -> str:
    with file:
        file.seek(0)
        return file.read().strip()


def _start(task: Row, said: TextIO, errors: TextIO) -> subprocess.Popen:
    option = f"--xla_force_host_platform_device_count={task['devices']}"
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scaling_worker", json.dumps(task)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": option},
        stdout=said,
        stderr=errors,
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def _numbers(name: str) -> list[int]:
    try:
        counts = [int(text) for text in flags.FLAGS[name].value if text]
    except ValueError:
        counts = [0]
    if any(count < 1 for count in counts):
        raise UserError(f"--{name}={','.join(flags.FLAGS[name].value)}: accepted are 1 or more")
    return counts


HEADER = (
    "devices", "processes", "batch", "images/s", "of one device", "efficiency (quartiles)",
    "all-reduced KiB", "expected KiB", "largest difference", "agrees",
)  # fmt: skip


def _entries(row: Row, one: Row) -> list[str]:
    """One row of the table."""
    efficiency = row["efficiency"]
    median, lower, upper = (
        f"{100 * efficiency[name]:.0f}" for name in ("median", "lower_quartile", "upper_quartile")
    )
    several = row["devices"] > 1
    return [
        str(row["devices"]),
        str(row["processes"]),
        str(row["batch_size"]),
        f"{row['images_per_second']:.4g}",
        f"{row['images_per_second'] / one['images_per_second']:.2f}",
        f"{median} % ({lower} to {upper})" if several else "-",
        f"{row['all_reduced_bytes'] / 1024:.1f}",
        f"{row['expected_bytes'] / 1024:.1f}",
        f"{row['difference']:.1e}" if "difference" in row else "-",
        "yes" if row["agrees"] else "no",
    ]
