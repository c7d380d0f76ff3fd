"""`launch/figures.py`: the figures that the papers draw from training, from the logs of runs."""

import json
import sys

from absl import flags

from robustjax.cli import app
from robustjax.evaluation import log_figures, sweep_figures
from robustjax.files import Path
from robustjax.training.log import read_rows

DESCRIPTION = """\
Draws figures from the logs of runs and sweeps, and writes their numbers as a .csv beside them.
docs/figures.md lists which figure of which paper is which command.

  python launch/figures.py --kind=curves --workdirs=runs/nap,runs/standard
  python launch/figures.py --kind=backward_passes --workdirs=runs/fat,runs/standard
  python launch/figures.py --kind=sweep --sweep_dirs=sweeps/mart_beta,sweeps/trades_beta"""

GROUPS = {"figure": ["kind", "workdirs", "sweep_dirs", "output"]}

KINDS = ("curves", "backward_passes", "sweep")


def main() -> None:
    """Parses the command line and draws."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    flags.DEFINE_enum("kind", "curves", KINDS, f"of figure: {', '.join(KINDS)}")
    flags.DEFINE_list("workdirs", [], "folders of runs, for curves and backward_passes")
    flags.DEFINE_list("sweep_dirs", [], "folders of sweeps, for sweep")
    flags.DEFINE_string("output", "", "the PNG; beside the first run or sweep if not given")


def _main() -> None:
    values = flags.FLAGS
    source = "sweep_dirs" if values.kind == "sweep" else "workdirs"
    folders = [Path(name) for name in values[source].value]
    if not folders:
        raise app.CommandError(f"--{source} is not given; --kind={values.kind} is drawn from it")
    output = Path(values.output) if values.output else folders[0] / f"{values.kind}.png"
    if output.suffix != ".png":
        raise app.CommandError(f"--output={values.output}: accepted is the name of a .png file")
    if values.kind == "sweep":
        sweeps = {folder.name: _settings(folder) for folder in folders}
        path = sweep_figures.accuracy_against_value(sweeps, output)
    else:
        draw = {
            "curves": log_figures.curves_of_runs,
            "backward_passes": log_figures.backward_passes_of_runs,
        }[values.kind]
        path = draw({folder.name: _rows(folder) for folder in folders}, output)
    print(f"figure: {path}   numbers: {path.with_suffix('.csv')}", file=sys.stderr)


def _rows(folder: Path) -> list[dict]:
    log = folder / "metrics.jsonl"
    rows = read_rows(log) if log.exists() else []
    if not rows:
        raise app.CommandError(f"--workdirs: {folder} has no complete epoch in a metrics.jsonl")
    needed = {key for keys in log_figures.PANELS.values() for key in keys}
    for key in sorted(needed | {"mean_backward_passes"}):
        if key not in rows[0]:
            raise app.CommandError(f"--workdirs: the rows of {log} lack {key!r}")
    return rows


def _settings(folder: Path) -> list[dict]:
    path = folder / "sweep.json"
    if not path.exists():
        raise app.CommandError(f"--sweep_dirs: {folder} has no sweep.json; run launch/sweep.py")
    return [entry for entry in json.loads(path.read_text())["settings"] if entry["accuracy"]]
