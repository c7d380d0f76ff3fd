"""`launch/transfer.py`: black-box evaluation of runs by transfer from one to another."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from absl import flags

from robustjax import evaluation
from robustjax.arguments import require_choice
from robustjax.attacks.threat_model import ThreatModel
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.cli.ball import ball_of, define_ball_flags
from robustjax.cli.evaluate import STEP_SIZE_HELP
from robustjax.cli.judged_images import DATA, data_given, define_data_flags
from robustjax.errors import UserError
from robustjax.evaluation.spec import STEPPED
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.evaluation.transfer import (
    ACCEPTED,
    Progress,
    parse_transfer_attack,
    summarize,
    transfer_matrix,
)
from robustjax.files import Path, require_writable
from robustjax.flags import NumberParser
from robustjax.progress import terminal_bar
from robustjax.reports.transfer import write
from robustjax.runs.earlier import keep_earlier
from robustjax.runs.folder import require_distinct, short_names
from robustjax.runs.names import TRANSFER
from robustjax.runs.resumable import Unfinished
from robustjax.text import format_value

DESCRIPTION = """\
Makes adversarial images of every source once and shows them to every target: the transfer matrix,
whose diagonal is white-box. Accuracy is counted on the adversarial images, as in the papers; beside
it stands robust accuracy, for which the clean image has to be right too. Writes transfer.json,
transfer.md, transfer.csv and transfer.png. The same command goes on where it was interrupted.

  python launch/transfer.py --workdirs=runs/standard,runs/trades,runs/mart --attack=pgd-20
  python launch/transfer.py --sources=runs/natural --targets=runs/trades,runs/mart --epsilon=0.03"""

GROUPS = {
    "what": [
        "workdirs",
        "sources",
        "targets",
        "checkpoint",
        "model",
        "output_dir",
    ],
    "images": ["examples", *DATA],
    "attack": ["attack", "norm", "epsilon", "step_size", "start", "allow_whole_box"],
    "run": ["batch_size", "seed"],
}

UNFINISHED = "transfer.unfinished"
"""The folder of an interrupted matrix, in the one that is written into."""


def main() -> None:
    """Parses the command line and evaluates."""
    app.run(_main, define_transfer_flags, description=DESCRIPTION, groups=GROUPS)


def define_transfer_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of a transfer matrix."""
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    names = functools.partial(flags.DEFINE_list, flag_values=values)
    integer = functools.partial(flags.DEFINE_integer, flag_values=values)
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=values, serializer=flags.ArgumentSerializer()
    )
    names("workdirs", [], "folders of runs, each both source and target")
    names("sources", [], "runs that are attacked; --workdirs if not given")
    names("targets", [], "runs that judge; --workdirs if not given")
    string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    checks.define_model_of_run(values)
    integer("examples", 0, "the first N of the test set; 0: all")
    define_data_flags(values)
    string("output_dir", "", "written into; the folder that holds the first run if not given")
    string("attack", "pgd-20", f"accepted are {ACCEPTED}")
    define_ball_flags(values)
    number("step_size", None, help=STEP_SIZE_HELP)
    string("start", "uniform", "of PGD and CW: uniform or clean")
    integer("batch_size", 0, "examples attacked at once; as the first run trained if 0")
    integer("seed", 0, "of the random starts")


def _main() -> None:
    values = flags.FLAGS
    sources, targets = _check_flags()
    folders = list(dict.fromkeys([*sources, *targets]))
    names = dict(zip(folders, short_names(folders), strict=True))
    output = Path(values.output_dir) if values.output_dir else Path(sources[0]).parent
    files = [f"transfer.{suffix}" for suffix in ("json", "md", "csv", "png")]
    require_writable(output, f"--output_dir={output}", files=files, folders=(UNFINISHED,))
    enable_compilation_cache()
    networks = {
        name: load_network(
            folder, values.checkpoint, examples=values.examples, **data_given(values)
        )
        for folder, name in names.items()
    }
    _require_one_data_set(networks)
    threat = _one_ball(networks)
    first = next(iter(networks.values()))
    size = min(values.batch_size or first.config.batch_size, len(first.test_set))
    unfinished = {
        names[folder]: Unfinished(
            output / UNFINISHED,
            networks[names[folder]].fingerprint,
            first.test_set.images,
            first.test_set.labels,
            values.seed,
        )
        for folder in sources
    }
    started = time.monotonic()
    matrix = transfer_matrix(
        values.attack,
        jax.random.key(values.seed),
        {names[folder]: networks[names[folder]].logits_fn for folder in sources},
        {names[folder]: networks[names[folder]].logits_fn for folder in targets},
        first.test_set,
        threat,
        step_size=values.step_size,
        start=values.start,
        batch_size=size,
        progress=_bar(),
        unfinished=unfinished,
    )
    summary = summarize(
        matrix,
        dataset=first.data_name,
        seed=values.seed,
        batch_size=size,
        elapsed_seconds=time.monotonic() - started,
        versions=evaluation.versions(),
        command=app.command_line(),
        runs={names[folder]: _about(folder, networks[names[folder]]) for folder in names},
    )
    subject = ("attack", "examples", "dataset", "seed", "runs")
    kept = keep_earlier(output / TRANSFER, summary, subject)
    path = write(summary, output)
    if kept is not None:
        print(f"{path} is new; what it was before is {kept}", file=sys.stderr)
    for part in unfinished.values():
        part.remove()
    print(path.with_suffix(".md").read_text().split("\n\n")[2])
    report, figure = path.with_suffix(".md"), path.with_suffix(".png")
    print(f"report: {report}   figure: {figure}   for programs: {path}", file=sys.stderr)


def _check_flags() -> tuple[Sequence[str], Sequence[str]]:
    """Gives the sources and targets."""
    values = flags.FLAGS
    sources, targets = values.sources or values.workdirs, values.targets or values.workdirs
    for name, folders in (("sources", sources), ("targets", targets)):
        if not folders:
            raise UserError(f"--{name}, --workdirs: neither is given; name folders of runs")
        require_distinct(f"--{name}, --workdirs", folders)
    require_distinct("--sources, --targets", list(dict.fromkeys([*sources, *targets])))
    if values.workdirs and values.sources and values.targets:
        raise UserError("--workdirs: --sources and --targets are both given already")
    if parse_transfer_attack(values.attack).kind not in STEPPED:
        for name in ("step_size", "start"):
            if values[name].present:
                app.warn(f"--{name}: --attack={values.attack} does not go by it; PGD and CW do")
    checks.require_counts(examples=0, batch_size=0, seed=0)
    checks.require_distances("epsilon")
    checks.require_distances("step_size", above_zero=True)
    require_choice("--start", values.start, ("uniform", "clean"))
    return sources, targets


def _require_one_data_set(networks: Mapping[str, TrainedNetwork]) -> None:
    (name, first), *others = networks.items()
    for other_name, other in others:
        same = np.array_equal(other.test_set.labels, first.test_set.labels)
        if not same or not np.array_equal(other.test_set.images, first.test_set.images):
            raise UserError(
                f"--workdirs: {name} was trained on {_described(first)}, {other_name} on "
                f"{_described(other)}; a transfer matrix needs one test set"
            )


def _described(network: TrainedNetwork) -> str:
    classes = ",".join(f"{number:g}" for number in network.config.classes)
    shape = "x".join(map(str, network.test_set.images.shape[1:]))
    only = f" with --classes={classes}" if classes else ""
    return f"{network.config.dataset}{only} ({len(network.test_set)} images of {shape})"


def _one_ball(networks: Mapping[str, TrainedNetwork]) -> ThreatModel:
    """The ball that the flags name, or that all runs have."""
    found = {name: ball_of(network) for name, network in networks.items()}
    for part in ("norm", "epsilon"):
        values = {name: getattr(ball, part) for name, ball in found.items()}
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{name} {format_value(value)}" for name, value in values.items())
            raise UserError(f"--{part} is not given, and the runs have different ones: {shown}")
    return next(iter(found.values()))


def _about(folder: str, network: TrainedNetwork) -> dict[str, str | int | bool]:
    return {
        "workdir": folder,
        "method": network.config.method,
        "model": network.config.model,
        "checkpoint": flags.FLAGS.checkpoint,
        "step": network.step,
        "moving_average": network.averaged,
    }


def _bar() -> Progress:
    """A bar with ETA over all sources on a terminal, one line a source elsewhere."""
    bar = terminal_bar(sys.stderr, total=1, unit="image")
    told: set[str] = set()

    def report(source: str, done: int, total: int) -> None:
        if bar is not None:
            bar.total = total
            bar.set_description_str(f"images of {source}", refresh=False)
            bar.update(done - bar.n)
            if done == total:
                bar.close()
        elif source not in told:
            told.add(source)
            print(f"making adversarial images of {source}", file=sys.stderr, flush=True)

    return report
