"""The benchmark that says where the time of the library's step goes, part by part."""

import dataclasses
from typing import Any

import jax
from absl import flags

from benchmarks import matrix_rate, results, step_flags, table, trace
from benchmarks.library_step import LibraryStep, probe, weightless_outer
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.progress import Progress
from benchmarks.timing import Side, Spread, alternate
from benchmarks.workload import Setting, Workload, create
from robustjax.cache import enable_compilation_cache
from robustjax.models import flops

DESCRIPTION = """\
Says where the time of the library's train step goes, by part and by kind of operation.

  python -m benchmarks profile --models=wide_resnet_16_4 --methods=trades
  python -m benchmarks profile --models=resnet_18 --output=profile.json

By part: the step is timed whole, without the steps of its attack, and without attack and outer
loss, in turns; the differences are the parts, each beside its floor. By kind: one profiler trace of
the whole step, added up over the threads; a convolution that XLA has fused with what surrounds it
counts where the fusion's name says."""

GROUPS = step_flags.GROUPS

_KERNEL_NAME = 60
"""Characters of a kernel's name that the table has."""

WHOLE, WITHOUT_ATTACK, REST = "whole step", "without the attack's steps", "optimiser and the rest"


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    step_flags.define()


def main() -> None:
    """Profiles everything that the flags ask for; prints tables, and writes them as JSON."""
    values = flags.FLAGS
    settings = step_flags.settings()
    enable_compilation_cache()
    environment = results.environment()
    print(results.describe(environment), flush=True)
    progress = Progress(len(settings), 3 * len(settings) * (step_flags.rounds() + 1))
    rows: list[dict[str, Any]] = []
    for precision, group in step_flags.by_precision(settings):
        size = matrix_rate.default_size()
        rate = matrix_rate.best_rate(matrix_rate.jax_product(size, precision), size)
        for setting in group:
            row = _profile(setting, rate, progress)
            rows.append(row)
            print(f"\n{setting.model} {setting.method} {precision}, batch {setting.batch_size}")
            print(tables(row), flush=True)
            results.write(values.output, environment, rows)
    progress.close()


def _profile(setting: Setting, rate: float, progress: Progress) -> dict[str, Any]:
    with progress.preparing(f"{setting.model} {setting.method}: compiling"):
        workload = create(setting)
        steps = _variants(workload)
        steps_taken = probe(workload).steps_taken.tolist()
    times = step_flags.steps_per_run()
    sides = {
        name: Side(lambda step=step: step.run(times), step.reset) for name, step in steps.items()
    }
    with Neighbours() as neighbours:
        seconds = alternate(sides, step_flags.rounds(), tick=progress.tick)
    seconds = {name: [value / times for value in own] for name, own in seconds.items()}
    whole = steps[WHOLE]
    whole.reset()
    program = whole.program()
    seen = trace.events(whole.run)
    row = {
        **dataclasses.asdict(setting),
        "matrix_gflop_per_second": rate / 1e9,
        "mean_attack_steps": sum(steps_taken) / len(steps_taken),
        "cpu_share_of_others": neighbours.share,
        "seconds_of_rounds": seconds,
        "parts": _parts(workload, seconds, steps_taken, rate),
        "traced_seconds": trace.by_kind(seen, program),
        "kernel_seconds": trace.by_kernel(seen),
    }
    jax.clear_caches()
    return row


def _variants(workload: Workload) -> dict[str, LibraryStep]:
    """The library's step, and the same step with parts left out."""
    bare = dataclasses.replace(workload.experiment.method, outer=weightless_outer)
    return {
        WHOLE: LibraryStep(workload),
        WITHOUT_ATTACK: LibraryStep(workload, attack_steps=0),
        REST: LibraryStep(workload, method=bare, attack_steps=0),
    }


def _parts(
    workload: Workload, seconds: dict[str, list[float]], steps_taken: list[int], rate: float
) -> dict[str, dict[str, float]]:
    """Part -> its median seconds, share of the step, and floor."""
    setting = workload.setting
    pass_floor = setting.batch_size / rate * flops.forward(setting.model, workload.images.shape[1:])
    outer_units = 3 * setting.work.outer_passes
    attack_units = setting.work.needed_units(setting.steps, steps_taken) - outer_units
    rounds = list(zip(seconds[WHOLE], seconds[WITHOUT_ATTACK], seconds[REST], strict=True))
    total = Spread.of(seconds[WHOLE]).median

    def part(values: list[float], units: float) -> dict[str, float]:
        median = Spread.of(values).median
        return {"seconds": median, "share": median / total, "floor_seconds": units * pass_floor}

    return {
        "attack": part([whole - without for whole, without, _ in rounds], attack_units),
        "outer loss and its gradient": part(
            [without - rest for _, without, rest in rounds], outer_units
        ),
        REST: part(seconds[REST], 0),
        WHOLE: part(seconds[WHOLE], attack_units + outer_units),
    }


def tables(row: dict[str, Any]) -> str:
    """The parts of a step, its kinds of operation and, on a GPU, its kernels."""
    parts = [
        [
            name,
            f"{part['seconds']:.3g}",
            f"{100 * part['share']:.0f} %",
            f"{part['floor_seconds']:.3g}" if part["floor_seconds"] else "-",
            f"{100 * part['floor_seconds'] / part['seconds']:.0f} %"
            if part["floor_seconds"]
            else "-",
        ]
        for name, part in row["parts"].items()
    ]
    busy = row["cpu_share_of_others"] or 0
    warning = f"\nOther processes used {100 * busy:.0f} % of the CPU meanwhile."
    text = table.markdown(("part", "seconds", "share", "floor, s", "of the floor"), parts)
    text += warning if busy > WORTH_A_WARNING else ""
    traced = row["traced_seconds"]
    if not traced:
        return f"{text}\n(the profiler saw no operations)"
    text += "\n" + _shares(traced, ("kind", "seconds, all threads", "share"))
    kernels = row["kernel_seconds"]
    if kernels:
        shown = {f"`{name[:_KERNEL_NAME]}`": seconds for name, seconds in kernels.items()}
        whole = sum(traced.values())
        text += "\n" + _shares(shown, ("kernel", "seconds", "of what was traced"), whole)
    return text


def _shares(
    seconds: dict[str, float], header: tuple[str, str, str], whole: float | None = None
) -> str:
    """A table of seconds, each beside its share of the whole, their sum if that is not given."""
    whole = whole or sum(seconds.values())
    rows = [[name, f"{own:.3g}", f"{100 * own / whole:.0f} %"] for name, own in seconds.items()]
    return table.markdown(header, rows)
