"""The benchmark of the train step: images per second beside PyTorch, and beside the floor."""

import dataclasses
import sys
from typing import Any

import jax
from absl import flags

from benchmarks import peers, results, step_flags, table
from benchmarks.library_step import LibraryStep, probe
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.progress import Progress
from benchmarks.timing import Side, Spread, alternate, paired_ratio
from benchmarks.workload import CHANNELS, Setting, create
from robustjax import parallel
from robustjax.cache import enable_compilation_cache
from robustjax.errors import UserError
from robustjax.models import flops

DESCRIPTION = """\
Times training steps in images per second, beside PyTorch's and beside the floor.

  python -m benchmarks train_step --output=train_step.json
  python -m benchmarks train_step --models=resnet_18 --methods=trades --rounds=15
  python -m benchmarks train_step --models=wide_resnet_16_4 --peers=eager --batch_size=16 --steps=3
  python -m benchmarks train_step --cpu_devices=2

The library's side is its own train step, made from the options of launch/train.py. The peers are
PyTorch with channels_last: eager, compiled (torch.compile) and, for methods that stop early,
compacted (the examples that have stopped leave the attack's batch). Weights, images and random
starts of the first step are the same on all sides, and a peer whose loss or update then differs
from the library's is not timed. The sides take turns; a ratio is the median of the ratios of the
rounds. The floor is the time of the convolutions and matrix products of a step at the rate of the
fastest large matrix product."""

GROUPS = {**step_flags.GROUPS, "library": ["cpu_devices"], **peers.GROUPS}

LIBRARY = "robustjax"
TARGETS = {"eager": 1.0, "compiled": 1.15}
"""The library's time is to be at most so many times the peer's."""

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    step_flags.define()
    peers.define_flags()
    flags.DEFINE_integer("cpu_devices", 1, "the library shares a batch among so many CPU devices")


def main() -> None:
    """Measures everything that the flags ask for; prints a table, and writes it as JSON."""
    _make_cpu_devices(flags.FLAGS.cpu_devices)
    settings, wanted = step_flags.settings(), peers.wanted()
    if wanted:
        networks = (setting.model for setting in settings)
        peers.require_counterparts(networks, "--peers= times the library alone", CHANNELS)
    for setting in settings:
        _require_shares(setting.batch_size, flags.FLAGS.cpu_devices)
    enable_compilation_cache()
    environment = results.environment()
    print(results.describe(environment), flush=True)
    sides = sum(1 + len(peers.taking_part(wanted, setting)) for setting in settings)
    progress = Progress(len(settings), sides * (step_flags.rounds() + 1))
    rows: list[Row] = []
    for precision, group in step_flags.by_precision(settings):
        rate = peers.matrix_rate(precision, wanted)
        progress.say(f"{precision}: matrix products reach {rate / 1e9:.4g} GFLOP/s")
        for setting in group:
            new = _measure(setting, peers.taking_part(wanted, setting), rate, progress)
            jax.clear_caches()
            peers.forget(wanted)
            rows += new
            progress.say("\n".join("  " + "  ".join(entries(row)[3:]) for row in new))
            results.write(flags.FLAGS.output, environment, rows)
    progress.close()
    print(table.markdown(HEADER, [entries(row) for row in rows]))
    _warn_of_neighbours(rows)
    refused = [row for row in rows if row["refused"]]
    for row in refused:
        print(f"{row['model']} {row['method']} {row['side']}: {row['refused']}", file=sys.stderr)
    if refused:
        raise UserError(f"{len(refused)} of {len(rows)} sides could not be timed")


def _make_cpu_devices(count: int) -> None:
    """Has an effect only before JAX is asked for a device."""
    if count < 1:
        raise UserError(f"--cpu_devices={count}: accepted are 1 or more")
    parallel.force_cpu_devices(count)


def _require_shares(batch_size: int, count: int) -> None:
    try:
        parallel.per_device_batch(batch_size, count)
    except ValueError as error:
        raise UserError(f"--cpu_devices={count}: {error}") from error


def _measure(setting: Setting, names: list[str], rate: float, progress: Progress) -> list[Row]:
    """The rows of the library and its peers for one network and method."""
    times, refused, agreements = step_flags.steps_per_run(), {}, {}
    what = f"{setting.model} {setting.method}: compiling, and comparing the sides"
    with progress.preparing(what):
        workload = create(setting)
        probed = probe(workload)
        library = LibraryStep(workload, devices=flags.FLAGS.cpu_devices)
        sides = {LIBRARY: Side(lambda: library.run(times), library.reset)}
        reference = peers.reference(workload, library, probed) if names else None
        for name in names:
            try:
                step, agreements[name] = peers.create(name, reference)
            except Exception as error:
                refused[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                progress.say(f"  {name} is not timed: {refused[name]}")
                progress.skip(step_flags.rounds() + 1)
                continue
            sides[name] = Side(lambda step=step: step.run(times), step.reset)
    with Neighbours() as neighbours:
        seconds = alternate(sides, step_flags.rounds(), tick=progress.tick)
    work = _work(setting, probed.steps_taken.tolist(), rate)
    rows = []
    for name in (LIBRARY, *names):
        row = {
            **dataclasses.asdict(setting),
            "side": name,
            "library_devices": flags.FLAGS.cpu_devices,
            "refused": refused.get(name, ""),
            **work,
        }
        row["cpu_share_of_others"] = neighbours.share
        if name in agreements:
            row["agreement"] = dataclasses.asdict(agreements[name])
        if name in seconds:
            row |= _speed(seconds[name], seconds[LIBRARY], times, row)
        rows.append(row)
    return rows


def _warn_of_neighbours(rows: list[Row]) -> None:
    """Says which results a busy machine makes doubtful."""
    busy = {
        f"{row['model']} {row['method']} ({100 * row['cpu_share_of_others']:.0f} %)": None
        for row in rows
        if (row["cpu_share_of_others"] or 0) > WORTH_A_WARNING
    }
    if busy:
        print(
            "Other processes used the CPU meanwhile, so that these ratios are not to be trusted: "
            + ", ".join(busy)
        )


def _work(setting: Setting, steps_taken: list[int], rate: float) -> Row:
    """What a step has to compute, and how long that takes at best."""
    image_shape = (setting.image_size, setting.image_size, 3)
    forward = flops.forward(setting.model, image_shape)
    units = setting.work.needed_units(setting.steps, steps_taken)
    return {
        "mean_attack_steps": sum(steps_taken) / len(steps_taken),
        "forward_flops_per_image": forward,
        "forward_flops_without_padding": flops.forward(
            setting.model, image_shape, padded_taps=False
        ),
        "units": setting.work.units(setting.steps),
        "needed_units": units,
        "matrix_flops_per_second": rate,
        "floor_seconds": units * forward * setting.batch_size / rate,
    }


def _speed(seconds: list[float], library: list[float], times: int, row: Row) -> Row:
    """What the rounds of one side come to."""
    a_step = Spread.of(seconds).times(1 / times)
    return {
        "steps_per_run": times,
        "seconds_of_rounds": seconds,
        "seconds_per_step": dataclasses.asdict(a_step),
        "images_per_second": row["batch_size"] / a_step.median,
        "library_time_over_this": dataclasses.asdict(paired_ratio(library, seconds)),
        "fraction_of_floor": row["floor_seconds"] / a_step.median,
    }


HEADER = (
    "network", "method", "precision", "side", "images/s", "s per step (quartiles)",
    "robustjax time / this", "target", "of the floor",
)  # fmt: skip


def entries(row: Row) -> list[str]:
    """One row of the table."""
    start = [row["model"], row["method"], row["precision"], row["side"]]
    if row["refused"]:
        return [*start, "-", "not timed", "-", "-", "-"]
    seconds, ratio = row["seconds_per_step"], row["library_time_over_this"]
    target = TARGETS.get(row["side"])
    return [
        *start,
        f"{row['images_per_second']:.4g}",
        _spread(seconds),
        "-" if row["side"] == LIBRARY else _spread(ratio),
        "-" if target is None else f"{target:g} {'met' if ratio['median'] <= target else 'missed'}",
        f"{100 * row['fraction_of_floor']:.0f} %",
    ]


def _spread(values: dict[str, float]) -> str:
    median, lower, upper = (values[name] for name in ("median", "lower_quartile", "upper_quartile"))
    return f"{median:.3g} ({lower:.3g} to {upper:.3g})"
