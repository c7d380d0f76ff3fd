"""`launch/reproduce.py`: trains, attacks and tabulates what a paper's table or figure shows."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from robustjax import training
from robustjax.arguments import LARGEST_SEED, did_you_mean
from robustjax.cli import app, checks
from robustjax.cli.reproduce import listing, running
from robustjax.cli.sweep.plan import given_train_flags
from robustjax.cli.train import train_groups
from robustjax.errors import UserError
from robustjax.files import Path, require_writable
from robustjax.flags import define_flags
from robustjax.papers import catalogue
from robustjax.papers.item import Item, Row
from robustjax.papers.planned import RUNS, Request, networks_of, require_accepted

DESCRIPTION = """\
Makes a table or figure of a paper: trains its networks, attacks them, and writes our numbers beside
the published ones into --workdir. What is there is not made again: one network serves every table
that shows it, the same command goes on where it was interrupted, and several machines may share a
--workdir, each then takes what no other is at.

  python launch/reproduce.py --list                     all tables and figures, what they cost
  python launch/reproduce.py --list --item=mart/table4  its rows and the paper's numbers
  python launch/reproduce.py --item=mart/table4 --data_dir=DIR
  python launch/reproduce.py --item=mart/table4 --rows=MART,TRADES --seeds=1
  python launch/reproduce.py --item=nap/fig4 --scale=0.05    a try, with a twentieth of the epochs

Any flag of launch/train.py overrides what the paper says, as --precision=bfloat16 or --model=..."""

GROUPS = {
    "what": ["item", "rows", "seeds", "list", "report_only"],
    "how": ["workdir", "results_dir", "scale", "parallel", "attack_batch_size"],
}

DEFAULT_WORKDIR = "reproduced"


def main() -> None:
    """Parses the command line and reproduces."""
    training_groups = {
        f"training, {title}": [name for name in names if name not in ("workdir", "seed")]
        for title, names in train_groups().items()
    }
    app.run(_main, define, description=DESCRIPTION, groups={**GROUPS, **training_groups})


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/reproduce.py beside those of training."""
    define_flags(values)
    names = functools.partial(flags.DEFINE_list, flag_values=values)
    truth = functools.partial(flags.DEFINE_bool, flag_values=values)
    names("item", [], "tables and figures, as mart/table4, or a paper, as mart")
    flags.DEFINE_multi_string(
        "rows", [], "rows by their labels, as A,B; may be repeated; all if not given",
        flag_values=values,
    )  # fmt: skip
    names("seeds", [], "in place of the paper's number of repetitions, as 1,2,3")
    truth("list", False, "show the tables and figures there are, and make nothing")
    truth("report_only", False, "only write the tables and figures of what is there")
    flags.DEFINE_string(
        "scale", "1", "of epochs and test images, more than 0 to 1, for a try", flag_values=values
    )
    flags.DEFINE_string(
        "results_dir", "", "that tables and figures go to; --workdir if not given",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "parallel", 1, "networks at the same time, each with its share of the cores",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "attack_batch_size", 0, "examples attacked at once; as in training if 0", flag_values=values
    )


def _main() -> None:
    values = flags.FLAGS
    request = _request()
    if values.list:
        for line in listing.lines(catalogue.chosen(values.item), request, whole=not values.item):
            print(line, flush=True)
        return
    if not values.item:
        raise UserError("--item is not given; --list shows the tables and figures there are")
    from robustjax.cli.reproduce import results  # Draws, for which --list asks no extra.

    chosen = _with_rows(catalogue.chosen(values.item), values.rows)
    require_writable(request.folder, f"--workdir={request.folder}", folders=(RUNS,))
    output = request.folder
    if values.results_dir:
        output = require_writable(values.results_dir, f"--results_dir={values.results_dir}")
    failures: Mapping[Path, str] = {}
    if not values.report_only:
        networks = networks_of(chosen, request)
        require_accepted(networks, training.check_experiment)
        failures = running.run(chosen, networks, request, values.parallel, values.attack_batch_size)
    for name, (item, rows) in chosen.items():
        folder = output / name.replace("/", "_")
        results.write(name, item, rows, request, folder, draws=not values.report_only)
    if failures:
        lines = [f"{folder.name}: {error}" for folder, error in failures.items()]
        raise UserError(f"{len(failures)} networks failed: " + "; ".join(lines))


def _request() -> Request:
    values = flags.FLAGS
    checks.require_counts(parallel=1, attack_batch_size=0)
    if app.is_typed("seed"):
        raise UserError("--seed: what each network has follows from --seeds")
    seeds = tuple(map(_seed, values.seeds))
    folder = Path(values.workdir or DEFAULT_WORKDIR)
    return Request(folder, tuple(given_train_flags(values)), _scale(values.scale), seeds)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise UserError(f"--scale={text}: accepted are numbers more than 0, at most 1")
    return scale


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(LARGEST_SEED)) or int(text) > LARGEST_SEED:
        raise UserError(f"--seeds: {text!r}; accepted are whole numbers, as 0,1,2")
    return int(text)


def _with_rows(
    items: Mapping[str, Item], labels: Sequence[str]
) -> dict[str, tuple[Item, Sequence[Row]]]:
    """Each item that is to be made with those of its rows that are wanted."""
    known = dict.fromkeys(row.name for item in items.values() for row in item.rows)
    # Labels may have commas; several may be given between commas all the same.
    labels = [one for text in labels for one in ([text] if text in known else text.split(","))]
    for label in labels:
        if label not in known:
            raise UserError(
                f"--rows={label}: {', '.join(items)} has no such row; accepted are "
                f"{', '.join(known)}{did_you_mean(label, known)}"
            )
    found: dict[str, tuple[Item, Sequence[Row]]] = {}
    for name, item in items.items():
        if item.reason:
            print(f"{name} cannot be made: {item.reason}", file=sys.stderr)
            continue
        rows = tuple(row for row in item.rows if not labels or row.name in labels)
        for row in _without_training(rows):
            print(f"{name}, {row.name}: cannot be trained: {row.reason}", file=sys.stderr)
        found[name] = (item, rows)
    return found


def _without_training(rows: Sequence[Row]) -> Iterator[Row]:
    return (row for row in rows if row.training is None)
