"""`launch/figures.py`: figures of the logs of runs and sweeps."""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from robustjax import installed
from robustjax.cli import app, checks
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.flags import define_choice
from robustjax.reports.figures import log as log_figures
from robustjax.reports.figures import sweep as sweep_figures
from robustjax.reports.figures.log import LoggedRun
from robustjax.reports.sweep import read_settings
from robustjax.runs.folder import require_distinct, short_names
from robustjax.runs.log import read_rows
from robustjax.runs.names import METRICS

DESCRIPTION = """\
Draws figures from the logs of runs and sweeps, and writes their numbers as a .csv beside them.

  python launch/figures.py --kind=curves --workdirs=runs/nap,runs/standard
  python launch/figures.py --kind=backward_passes --workdirs=runs/fat,runs/standard
  python launch/figures.py --kind=sweep --sweep_dirs=sweeps/mart_beta,sweeps/trades_beta

curves: natural accuracy, robust accuracy and loss per epoch. backward_passes: their mean per image
and epoch. Both take runs, or sweeps, of which each setting is a line: the median over its seeds.
sweep: accuracy against the swept value, one line for each sweep and each value of its other flags;
bars if no swept flag has numbers.

The papers' own figures are made by launch/reproduce.py."""

GROUPS = {"figure": ["kind", "workdirs", "sweep_dirs", "x", "output"]}

KINDS = ("curves", "backward_passes", "sweep")


def main() -> None:
    """Parses the command line and draws."""
    app.run(_main, define_figure_flags, description=DESCRIPTION, groups=GROUPS)


def define_figure_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of a figure."""
    string, names = flags.DEFINE_string, flags.DEFINE_list
    kinds = f"of figure: {', '.join(KINDS)}"
    define_choice("kind", "curves", KINDS, kinds, values)
    names("workdirs", [], "folders of runs, for curves and backward_passes", flag_values=values)
    names("sweep_dirs", [], "folders of sweeps", flag_values=values)
    help_text = "swept flag along the axis of --kind=sweep; the first with numbers if not given"
    string("x", "", help_text, flag_values=values)
    help_text = "the PNG; beside the runs or sweeps if not given"
    string("output", "", help_text, flag_values=values)


def _main() -> None:
    values = flags.FLAGS
    sweeps = {name: Path(name) for name in values.sweep_dirs}
    runs = {name: Path(name) for name in values.workdirs}
    if values.kind == "sweep" and not sweeps:
        raise UserError("--sweep_dirs is not given; --kind=sweep is drawn from it")
    if values.kind == "sweep" and runs:
        raise UserError("--workdirs: --kind=sweep is drawn from --sweep_dirs alone")
    if not sweeps and not runs:
        raise UserError(
            f"--workdirs is not given; --kind={values.kind} is drawn from it or --sweep_dirs"
        )
    output = _output([*runs.values(), *sweeps.values()])
    folders = [*values.workdirs, *values.sweep_dirs]
    require_distinct("--workdirs, --sweep_dirs", folders)
    names = dict(zip(folders, short_names(folders), strict=True))
    settings = {names[given]: _settings(folder) for given, folder in sweeps.items()}
    if values.kind == "sweep":
        only = next(iter(settings.values()))
        if len(settings) == 1 and not values.x and not sweep_figures.swept_axis(only):
            path = sweep_figures.settings_side_by_side(only, output)
        else:
            path = sweep_figures.accuracy_against_value(settings, output, flag=values.x)
    else:
        lines = {names[given]: [_logged(folder)] for given, folder in runs.items()}
        for given, folder in sweeps.items():
            prefix = f"{names[given]} " if len(sweeps) > 1 else ""
            for entry in settings[names[given]]:
                logs = [_logged(folder / "runs" / run["folder"]) for run in entry["runs"]]
                lines[prefix + entry["name"]] = logs
        draw = {
            "curves": log_figures.curves_of_runs,
            "backward_passes": log_figures.backward_passes_of_runs,
        }[values.kind]
        path = draw(lines, output)
    print(f"figure: {path}   numbers: {path.with_suffix('.csv')}", file=sys.stderr)


def _output(folders: Sequence[Path]) -> Path:
    """Where to draw: in the one folder that is drawn, or in the folder that holds the first."""
    values = flags.FLAGS
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--workdirs, --sweep_dirs: there is no folder {folder}")
    if not values.output:
        beside = folders[0] if len(folders) == 1 else folders[0].parent
        return checks.require_output(beside / f"{values.kind}.png", "--output is not given, and")
    if not values.output.endswith(".png"):
        raise UserError(f"--output={values.output}: accepted is the name of a .png file")
    return checks.require_output(values.output, f"--output={values.output}")


def _logged(workdir: Path) -> LoggedRun:
    log = workdir / METRICS
    rows = read_rows(log) if log.exists() else []
    if not rows:
        raise UserError(f"{workdir} has no complete epoch in a metrics.jsonl")
    return LoggedRun(workdir, rows)


def _settings(folder: Path) -> list[dict[str, Any]]:
    path = folder / "sweep.json"
    if not path.exists():
        raise UserError(
            f"--sweep_dirs: {folder} has no sweep.json; run {installed.written('sweep')}"
        )
    settings = [entry for entry in read_settings(path) if entry["accuracy"]]
    if not settings:
        raise UserError(f"--sweep_dirs: {folder} has no run that is evaluated yet")
    return settings
