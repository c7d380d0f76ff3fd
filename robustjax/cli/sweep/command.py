"""`launch/sweep.py`: trains and evaluates one experiment for several values and seeds."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from robustjax import evaluation
from robustjax.arguments import is_number, require_choice, require_finite
from robustjax.cli import app, checks
from robustjax.cli.sweep.plan import (
    RUNS,
    PlannedRun,
    common_flags,
    planned_runs,
    recorded_evaluation,
    recorded_runs,
)
from robustjax.cli.sweep.processes import run_all
from robustjax.cli.train import train_groups
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation import protocols
from robustjax.evaluation.spec import AttackSpec, require_possible
from robustjax.files import Path, read_json, require_writable, write_whole
from robustjax.flags import define_attacks, define_choice, define_flags
from robustjax.reports import sweep as results
from robustjax.reports.figures import sweep as sweep_figures
from robustjax.reports.html.page import page_of_sweep
from robustjax.reports.sweep_pairs import paired_settings, pairs_to_markdown
from robustjax.runs.lock import Lock
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS
from robustjax.text import parse_number
from robustjax.training.units import require_inside_box

DESCRIPTION = """\
Trains and evaluates an experiment for every combination of some values, with several seeds. What is
finished is not repeated and what was interrupted is resumed, so the same command goes on.

  python launch/sweep.py --flagfile=launch/trades.flags --grid=beta=1,3,6 --seeds=0,1,2 \\
    --sweep_dir=sweeps/trades_beta --attacks=clean,pgd-20,cw-30
  python launch/sweep.py --grid='flagfile=launch/standard.flags;launch/trades.flags' --seeds=0 \\
    --sweep_dir=sweeps/methods --model=resnet_18

--grid=NAME=V1,V2,... sweeps over a flag of launch/train.py; values that contain commas are
separated by semicolons instead. --grid='epsilon,step_size=0.03:0.003;0.06:0.006' sweeps over two
flags at once. --grid='flagfile=A;B' compares flag files, which every other flag overrides; a
repeated --grid gives all combinations. The result is sweep.html, sweep.md, sweep.json, sweep.png,
sweep.csv, of the runs that the last command asked for; --sweep_dir=DIR --report_only makes it
again. Each run has its folder and its log in DIR/runs."""

OWN_GROUPS = {
    "sweep": ["sweep_dir", "grid", "seeds", "parallel", "report_only", "center"],
    "evaluation": [
        "attacks",
        "protocol",
        "examples",
        "attack_step_size",
        "checkpoint",
        "attack_batch_size",
    ],
}  # fmt: skip


_LOCK = "sweep.lock"


def main() -> None:
    """Parses the command line and runs the sweep."""
    groups = {**OWN_GROUPS, **{f"training, {name}": of for name, of in train_groups().items()}}
    app.run(_main, define_sweep_flags, description=DESCRIPTION, groups=groups)


def define_sweep_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of a sweep beside those of training."""
    define_flags(values)
    flags.DEFINE_string(
        "sweep_dir", "", "folder that the runs and the results go to", flag_values=values
    )
    flags.DEFINE_multi_string("grid", [], "NAME=V1,V2,...; may be repeated", flag_values=values)
    flags.DEFINE_list("seeds", ["0"], "seeds, as 0,1,2", flag_values=values)
    flags.DEFINE_integer(
        "parallel", 1, "runs at the same time, each with its share of the cores", flag_values=values
    )
    flags.DEFINE_bool(
        "report_only", False, "only make the table and figure of what is there", flag_values=values
    )
    define_choice("center", "median", tuple(results.CENTRES), "over the seeds", values)
    accepted = f"accepted are {evaluation.accepted_attacks()} [clean,pgd-20]"
    define_attacks(None, accepted, values)
    flags.DEFINE_string(
        "protocol", "", f"in place of --attacks, a paper's: {', '.join(protocols.PROTOCOLS)}",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("examples", 0, "the first N of the test set; 0: all", flag_values=values)
    flags.DEFINE_string(
        "attack_step_size",
        "",
        "of PGD and CW in evaluation; the larger of epsilon/10 and 2 epsilon/K if not given",
        flag_values=values,
    )
    flags.DEFINE_string(
        "checkpoint", "best", "best (by hold-out robust accuracy) or latest", flag_values=values
    )
    flags.DEFINE_integer(
        "attack_batch_size", 0, "examples attacked at once; as in training if 0", flag_values=values
    )


def _main() -> None:
    values = flags.FLAGS
    _check_options()
    folder = Path(values.sweep_dir)
    record = _read_record(folder)
    as_recorded = values.report_only and not (values.grid or values["seeds"].present)
    if as_recorded and "plan" not in record:
        raise UserError(
            f"--report_only: {folder} has no sweep.json that lists its runs; give the sweep's flags"
        )
    plan = [] if as_recorded else planned_runs(folder, values.grid, values.seeds, values)
    _check_attacks(plan)
    files = [f"sweep.{suffix}" for suffix in ("json", "md", "html", "csv", "png")]
    require_writable(folder, f"--sweep_dir={folder}", files=files, folders=(RUNS,))
    with Lock(folder / _LOCK, "a sweep"):
        if as_recorded:
            _report(folder, record)
        else:
            _sweep(folder, plan, record)


def _report(folder: Path, record: dict[str, Any]) -> None:
    """Writes the results of the runs that a sweep.json lists."""
    values = flags.FLAGS
    centre = values.center if values["center"].present else record.get("center", "median")
    runs, wanted = recorded_runs(folder, record), recorded_evaluation(folder, record)
    _show(folder, write_results(folder, runs, {**record, "center": centre}, wanted), centre)


def _sweep(folder: Path, plan: Sequence[PlannedRun], record: dict[str, Any]) -> None:
    """Trains and evaluates what is not done yet, and writes the results of all."""
    values = flags.FLAGS
    wanted = {planned.run.workdir: _wanted(planned.config) for planned in plan}
    about = {
        "command": app.command_line(),
        "center": values.center,
        "flags": common_flags(planned.config for planned in plan),
    }
    before = record.get("total_seconds", 0.0)
    started, before = time.monotonic(), before if is_number(before) else 0.0
    failures: dict[Path, str] = {}

    def report() -> list[dict[str, Any]]:
        runs = [run._replace(error=failures.get(run.workdir, "")) for run, _ in plan]
        seconds = before + time.monotonic() - started
        return write_results(folder, runs, {**about, "total_seconds": round(seconds, 1)}, wanted)

    if not values.report_only:
        report()
        waiting = [planned for planned in plan if not _is_done(planned, wanted)]
        if len(waiting) < len(plan):
            print(f"{len(plan) - len(waiting)} of {len(plan)} runs are done", file=sys.stderr)
        options = {
            "attack_names": [] if values.protocol else _attacks(),
            "protocol": values.protocol,
            "examples": values.examples,
            "checkpoint": values.checkpoint,
            "batch_size": values.attack_batch_size,
            "step_size": values.attack_step_size,
        }
        run_all(waiting, lambda _: [options], values.parallel, failures, report)
    _show(folder, report(), values.center)
    if failures:
        lines = [f"{workdir}: {error}" for workdir, error in failures.items()]
        raise UserError(f"{len(failures)} of {len(plan)} runs failed: " + "; ".join(lines))


def _check_options() -> None:
    """Refuses what is wrong with the sweep's own flags."""
    values = flags.FLAGS
    if not values.sweep_dir:
        raise UserError("--sweep_dir is not given; name the folder of the sweep")
    checks.require_counts(parallel=1, examples=0, attack_batch_size=0)
    require_choice("--checkpoint", values.checkpoint, ("best", "latest"))
    for name, instead in (("seed", "--seeds"), ("workdir", "--sweep_dir")):
        if app.is_typed(name):
            raise UserError(f"--{name}: what each run of a sweep has follows from {instead}")
    if values.attacks == []:
        raise UserError("--attacks= is empty: accepted are names, as clean,pgd-20")
    for name in ("attacks", "attack_step_size"):
        if values.protocol and values[name].value:
            raise UserError(
                f"--{name}: --protocol={values.protocol} says what it is; give one of the two"
            )
    if not values.seeds:
        raise UserError("--seeds= is empty: accepted are whole numbers, as 0,1,2")
    for name in _attacks():
        evaluation.parse_attack(name)
    if values.attack_step_size:
        try:
            step_size = parse_number(values.attack_step_size)
        except ValueError as error:
            raise UserError(f"--attack_step_size: {error}") from None
        accepted = "finite numbers, 0 or more"
        require_finite("--attack_step_size", step_size, 0, accepted=accepted)


def _attacks() -> list[str]:
    """The attacks by name that the flags ask for, where no protocol says them."""
    return flags.FLAGS.attacks or list(_DEFAULT_ATTACKS)


_DEFAULT_ATTACKS = ("clean", "pgd-20")

_MOST_CLASSES = 10
"""Enough for every attack; how many a data set has is not known before it is read."""


def _check_attacks(plan: Sequence[PlannedRun]) -> None:
    """Refuses attacks that a run cannot be evaluated with, before any is trained."""
    values = flags.FLAGS
    by_name = [evaluation.parse_attack(name) for name in _attacks()]
    for run, config in plan:
        try:
            specs: Sequence[AttackSpec] = by_name
            if values.protocol:
                specs = protocols.protocol_attacks(values.protocol, config.dataset)
            for spec in specs:
                require_possible(spec, config.norm, len(config.classes) or _MOST_CLASSES)
            if config.allow_whole_box:
                continue
            distances = {}
            if values.attack_step_size:
                flag = f"--attack_step_size={values.attack_step_size}"
                distances[flag] = parse_number(values.attack_step_size)
            for spec in specs:
                distances |= spec.own_distances()
            for said, value in distances.items():
                require_inside_box(said, value, config.norm, None)
        except ValueError as error:
            raise UserError(f"{run.name!r}: {error}") from error


def _wanted(config: TrainConfig) -> results.Wanted:
    """The evaluation that a run is to have."""
    values = flags.FLAGS
    step_size = parse_number(values.attack_step_size) if values.attack_step_size else None
    attacks = _attacks()
    if values.protocol:
        specs = protocols.protocol_attacks(values.protocol, config.dataset)
        attacks = [spec.name for spec in specs]
    return results.Wanted(
        attacks,
        values.examples,
        values.checkpoint,
        config.test_epsilon,
        step_size,
        config.epochs,
        values.protocol,
        config.dataset,
        config.norm,
    )


def _is_done(planned: PlannedRun, wanted: Mapping[Path, results.Wanted]) -> bool:
    """Whether a run is trained to its end and evaluated as asked for."""
    run, config = planned
    metrics = run.workdir / METRICS
    rows = read_rows(metrics) if metrics.is_file() else []
    if [row["epoch"] for row in rows] != list(range(1, config.epochs + 1)):
        return False
    return results.is_evaluated(run, wanted[run.workdir])


def _read_record(folder: Path) -> dict[str, Any]:
    """The sweep.json of an earlier call; empty if there is none, or it is damaged."""
    path = folder / "sweep.json"
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except ValueError as error:
        print(f"{error}; it is made again from the runs", file=sys.stderr)
        return {}


def _show(folder: Path, settings: Sequence[dict[str, Any]], centre: str) -> None:
    print(results.to_table(settings, centre))
    page, table = folder / "sweep.html", folder / "sweep.md"
    print(f"results: {page}   {table}   figure: {folder / 'sweep.png'}", file=sys.stderr)


def write_results(
    folder: Path,
    runs: Sequence[results.SweepRun],
    about: dict[str, Any],
    wanted: Mapping[Path, results.Wanted] | None = None,
) -> list[dict[str, Any]]:
    """Writes sweep.json, sweep.md, sweep.html, and the figure of what is there.

    Args:
      folder: of the sweep.
      runs: that it has or is to have.
      about: what else sweep.json is to record: the command, the "center", the common flags.
      wanted: the evaluation that each is to have, see `reports.sweep.gather`.

    Returns:
      The settings of `reports.sweep.gather`.
    """
    settings = results.gather(runs, about["center"], wanted)
    plan = [
        {
            "values": dict(run.values),
            "seed": run.seed,
            "folder": run.workdir.name,
            **({} if wanted is None else {"evaluation": wanted[run.workdir]._asdict()}),
        }
        for run in runs
    ]
    done = [run for entry in settings for run in entry["runs"]]
    measured = {key: done[-1][key] for key in ("versions", "examples")} if done else {}
    pairs = paired_settings(runs, wanted)
    content = {**about, **measured, "plan": plan, "settings": settings, "paired": pairs}
    write_whole(folder / "sweep.json", json.dumps(content, indent=2) + "\n")
    table = results.to_markdown(settings, about) + pairs_to_markdown(pairs)
    write_whole(folder / "sweep.md", table)
    write_whole(folder / "sweep.html", page_of_sweep(folder.name, settings, about))
    found = [entry for entry in settings if entry["accuracy"]]
    if found:
        path = folder / "sweep.png"
        if sweep_figures.swept_axis(found):
            sweep_figures.accuracy_against_value({folder.name: found}, path)
        else:
            sweep_figures.settings_side_by_side(found, path)
    return settings
