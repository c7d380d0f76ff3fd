"""`launch/sweep.py`: trains and evaluates one experiment for several values and seeds."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from robustjax import evaluation
from robustjax.cli import app
from robustjax.cli.sweep_plan import PlannedRun, common_flags, planned_runs, recorded_runs
from robustjax.cli.sweep_processes import run_all
from robustjax.cli.train import train_groups
from robustjax.evaluation import sweep as results
from robustjax.evaluation import sweep_figures
from robustjax.files import Path, write_whole
from robustjax.flags import define_flags
from robustjax.text import parse_number
from robustjax.training.log import read_rows

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
repeated --grid gives all combinations. The result is sweep.md, sweep.json, sweep.png, sweep.csv, of
the runs that the last command asked for; --sweep_dir=DIR --report_only makes it again. Each run has
its folder and its log in DIR/runs."""

OWN_GROUPS = {
    "sweep": ["sweep_dir", "grid", "seeds", "parallel", "report_only", "center"],
    "evaluation": ["attacks", "examples", "attack_step_size", "checkpoint", "attack_batch_size"],
}


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
    flags.DEFINE_enum(
        "center", "median", list(results.CENTRES), "over the seeds", flag_values=values
    )
    flags.DEFINE_list(
        "attacks", ["clean", "pgd-20"], f"accepted are {evaluation.ACCEPTED}", flag_values=values
    )
    flags.DEFINE_integer("examples", 0, "the first N of the test set; 0: all", flag_values=values)
    flags.DEFINE_string(
        "attack_step_size",
        "",
        "of PGD and CW in evaluation; a tenth of epsilon",
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
    if values.report_only and "plan" in record and not (values.grid or values["seeds"].present):
        centre = values.center if values["center"].present else record["center"]
        settings = write_results(
            folder, recorded_runs(folder, record), {**record, "center": centre}
        )
        _show(folder, settings, centre)
        return
    if values.report_only and not values.grid:
        raise app.CommandError(
            f"--report_only: {folder} has no sweep.json that lists its runs; give the sweep's flags"
        )
    plan = planned_runs(folder, values.grid, values.seeds, values)
    _check_attacks(plan)
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "center": values.center,
        "flags": common_flags(planned.config for planned in plan),
    }
    started, before = time.monotonic(), record.get("total_seconds", 0.0)
    failures: dict[Path, str] = {}

    def report() -> list[dict[str, Any]]:
        runs = [run._replace(error=failures.get(run.workdir, "")) for run, _ in plan]
        seconds = before + time.monotonic() - started
        return write_results(folder, runs, {**about, "total_seconds": round(seconds, 1)})

    if not values.report_only:
        report()
        waiting = [planned for planned in plan if not _is_done(planned)]
        if len(waiting) < len(plan):
            print(f"{len(plan) - len(waiting)} of {len(plan)} runs are done", file=sys.stderr)
        options = {
            "attack_names": values.attacks,
            "examples": values.examples,
            "checkpoint": values.checkpoint,
            "batch_size": values.attack_batch_size,
            "step_size": values.attack_step_size,
        }
        run_all(waiting, options, values.parallel, failures, report)
    _show(folder, report(), values.center)
    if failures:
        lines = [f"{workdir}: {error}" for workdir, error in failures.items()]
        raise app.CommandError(f"{len(failures)} of {len(plan)} runs failed: " + "; ".join(lines))


def _check_options() -> None:
    """Refuses what is wrong with the sweep's own flags."""
    values = flags.FLAGS
    if not values.sweep_dir:
        raise app.CommandError("--sweep_dir is not given; name the folder of the sweep")
    if values.parallel < 1:
        raise app.CommandError(f"--parallel={values.parallel}: accepted are 1 or more")
    for name in ("examples", "attack_batch_size"):
        if values[name].value < 0:
            raise app.CommandError(f"--{name}={values[name].value}: accepted are 0 or more")
    if values.checkpoint not in ("best", "latest"):
        raise app.CommandError(f"--checkpoint={values.checkpoint}: accepted are best, latest")
    if not values.seeds:
        raise app.CommandError("--seeds= is empty: accepted are whole numbers, as 0,1,2")
    for name in values.attacks:
        evaluation.parse_attack(name)
    if values.attack_step_size:
        try:
            step_size = parse_number(values.attack_step_size)
        except ValueError as error:
            raise app.CommandError(f"--attack_step_size: {error}") from None
        if not 0 <= step_size < float("inf"):
            raise app.CommandError(
                f"--attack_step_size={values.attack_step_size}: accepted are finite numbers, 0 or "
                "more"
            )


def _check_attacks(plan: Sequence[PlannedRun]) -> None:
    """Refuses attacks that a run cannot be evaluated with."""
    linf_only = [name for name in flags.FLAGS.attacks if evaluation.parse_attack(name).kind == "cw"]
    for run, config in plan:
        if linf_only and config.norm != "linf":
            raise app.CommandError(
                f"{run.name}: {linf_only[0]} in --attacks is an linf attack; the run has "
                f"--norm={config.norm}"
            )


def _is_done(planned: PlannedRun) -> bool:
    """Whether a run is trained to its end and evaluated as asked for."""
    values, (run, config) = flags.FLAGS, planned
    metrics = run.workdir / "metrics.jsonl"
    rows = read_rows(metrics) if metrics.exists() else []
    if not rows or rows[-1]["epoch"] != config.epochs:
        return False
    epsilon = config.test_epsilon
    step_size = parse_number(values.attack_step_size) if values.attack_step_size else epsilon / 10
    wanted = results.Wanted(
        values.attacks, values.examples, values.checkpoint, epsilon, step_size, config.epochs
    )
    return results.is_evaluated(run, wanted)


def _read_record(folder: Path) -> dict[str, Any]:
    """The sweep.json of an earlier call; empty if there is none."""
    path = folder / "sweep.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _show(folder: Path, settings: Sequence[dict[str, Any]], centre: str) -> None:
    print(results.to_table(settings, centre))
    print(f"results: {folder / 'sweep.md'}   figure: {folder / 'sweep.png'}", file=sys.stderr)


def write_results(
    folder: Path, runs: Sequence[results.SweepRun], about: dict[str, Any]
) -> list[dict[str, Any]]:
    """Writes sweep.json, sweep.md, and the figure of what is there.

    Args:
      folder: of the sweep.
      runs: that it has or is to have.
      about: what else sweep.json is to record: the command, the "center", the common flags.

    Returns:
      The settings of `evaluation.sweep.gather`.
    """
    settings = results.gather(runs, about["center"])
    plan = [
        {"values": dict(run.values), "seed": run.seed, "folder": run.workdir.name} for run in runs
    ]
    done = [run for entry in settings for run in entry["runs"]]
    measured = {key: done[-1][key] for key in ("versions", "examples")} if done else {}
    content = {**about, **measured, "plan": plan, "settings": settings}
    write_whole(folder / "sweep.json", json.dumps(content, indent=2) + "\n")
    write_whole(folder / "sweep.md", results.to_markdown(settings, about))
    found = [entry for entry in settings if entry["accuracy"]]
    if found:
        path = folder / "sweep.png"
        if sweep_figures.swept_axis(found):
            sweep_figures.accuracy_against_value({folder.name: found}, path)
        else:
            sweep_figures.settings_side_by_side(found, path)
    return settings
