"""`launch/diagnose.py`: looks for masked gradients in the network of a run."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
import time

import jax
import numpy as np
from absl import flags

from robustjax import evaluation
from robustjax.arguments import LARGEST_COUNT
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.cli.ball import ball_of, define_ball_flags
from robustjax.cli.judged_images import DATA, data_given, define_data_flags
from robustjax.diagnosis import evidence as masking_evidence
from robustjax.diagnosis import rules as gradient_masking
from robustjax.diagnosis.evidence import Progress
from robustjax.diagnosis.records import Settings
from robustjax.errors import UserError
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.files import Path, require_writable, write_whole
from robustjax.flags import NumberParser
from robustjax.progress import terminal_bar
from robustjax.reports import masking as masking_report
from robustjax.reports.figures.masking import draw_diagnosis
from robustjax.runs.earlier import keep_earlier
from robustjax.runs.names import DIAGNOSIS
from robustjax.runs.resumable import Unfinished
from robustjax.step_size import default_step_size

DESCRIPTION = """\
Looks for masked gradients, which make a network seem robust because gradient attacks fail on it:
are attacks stronger with more steps, more restarts and a larger epsilon, do they converge, is an
attack without gradients weaker, does another loss break no more? Writes diagnosis.json,
diagnosis.md, diagnosis.csv and diagnosis.png. The same command goes on where it was interrupted.
The last line is the verdict; the exit status is 0 whatever it says.

  python launch/diagnose.py --workdir=runs/trades
  python launch/diagnose.py --workdir=runs/trades --source=runs/standard --steps=1,10,20,100,1000"""

GROUPS = {
    "what": ["workdir", "source", "checkpoint", "model", "output_dir"],
    "images": ["examples", *DATA],
    "attacks": [
        "norm", "epsilon", "step_size", "steps", "attack_steps", "restarts", "queries",
        "random_points", "allow_whole_box",
    ],
    "run": ["batch_size", "seed"],
}  # fmt: skip

UNFINISHED = "diagnosis.unfinished"
"""The folder of an interrupted diagnosis, in the one that is written into."""


def main() -> None:
    """Parses the command line and diagnoses."""
    app.run(_main, define_diagnosis_flags, description=DESCRIPTION, groups=GROUPS)


def define_diagnosis_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of a diagnosis."""
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    integer = functools.partial(flags.DEFINE_integer, flag_values=values)
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=values, serializer=flags.ArgumentSerializer()
    )
    string("workdir", "", "the folder of the run")
    string("source", "", "a run whose adversarial images are tried on it; none if not given")
    string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    checks.define_model_of_run(values)
    integer("examples", 500, "the first N of the test set; 0: all")
    define_data_flags(values)
    string("output_dir", "", "written into; --workdir if not given")
    define_ball_flags(values)
    number(
        "step_size",
        None,
        help="of PGD; the larger of epsilon/10 and 2 epsilon/K (K: --attack_steps) if not given",
    )
    flags.DEFINE_list(
        "steps", ["1", "5", "10", "20", "50", "100"], "of PGD, ascending", flag_values=values
    )
    integer("attack_steps", 50, "of the restarts, the larger balls, the other losses, the transfer")
    integer("restarts", 5, "of PGD")
    integer("queries", 500, "of Square; 0 leaves it out")
    integer("random_points", 50, "of the random search")
    integer("batch_size", 0, "examples attacked at once; as in training if 0")
    integer("seed", 0, "of the random starts")


def _main() -> None:
    values = flags.FLAGS
    steps = _check_flags()
    output = Path(values.output_dir or values.workdir)
    if values.output_dir or output.is_dir():
        require_writable(
            output,
            f"--output_dir={output}" if values.output_dir else f"--workdir={output}",
            files=(DIAGNOSIS, "diagnosis.md", "diagnosis.png"),
            folders=(UNFINISHED,),
        )
    enable_compilation_cache()
    network = _load(values.workdir)
    source = _load(values.source) if values.source else None
    if source is not None:
        _require_its_data_set(network, source)
    threat = ball_of(network)
    epsilon = float(threat.epsilon)
    if epsilon == 0:
        raise UserError("--epsilon is 0; a diagnosis needs a ball")
    settings = Settings(
        step_size=(
            default_step_size(epsilon, values.attack_steps)
            if values.step_size is None
            else values.step_size
        ),
        steps=steps,
        attack_steps=values.attack_steps,
        restarts=values.restarts,
        queries=values.queries,
        random_points=values.random_points,
    )
    size = min(values.batch_size or network.config.batch_size, len(network.test_set))
    unfinished = Unfinished(
        output / UNFINISHED,
        network.fingerprint,
        network.test_set.images,
        network.test_set.labels,
        values.seed,
        None if source is None else source.fingerprint,
    )
    started = time.monotonic()
    evidence = masking_evidence.gather(
        jax.random.key(values.seed),
        network.logits_fn,
        network.test_set,
        threat,
        settings,
        source_fn=None if source is None else source.logits_fn,
        batch_size=size,
        progress=_bar(),
        unfinished=unfinished,
    )
    summary = masking_report.summarize(
        gradient_masking.judge(evidence),
        evidence,
        workdir=values.workdir,
        source=values.source or "none",
        method=network.config.method,
        model=network.config.model,
        dataset=network.data_name,
        checkpoint={
            "kind": values.checkpoint,
            "step": network.step,
            "moving_average": network.averaged,
        },
        attacks={"norm": threat.norm, "epsilon": epsilon, **dataclasses.asdict(settings)},
        seed=values.seed,
        batch_size=size,
        elapsed_seconds=time.monotonic() - started,
        versions=evaluation.versions(),
        command=app.command_line(),
    )
    subject = ("workdir", "source", "dataset", "examples", "checkpoint", "attacks", "seed")
    kept = keep_earlier(output / DIAGNOSIS, summary, subject)
    text = masking_report.to_markdown(summary)
    write_whole(output / "diagnosis.md", text)
    draw_diagnosis(summary, output / "diagnosis.png")
    path = write_whole(output / DIAGNOSIS, json.dumps(summary, indent=2) + "\n")
    unfinished.remove()
    if kept is not None:
        print(f"{path} is new; what it was before is {kept}", file=sys.stderr)
    for check in summary["checks"]:
        print(f"{check['verdict']:<11}{check['name']}")
    print(f"report: {output / 'diagnosis.md'}   for programs: {path}", file=sys.stderr)
    print(f"verdict: {masking_report.verdict_line(summary)}")


def _load(workdir: str) -> TrainedNetwork:
    values = flags.FLAGS
    return load_network(workdir, values.checkpoint, examples=values.examples, **data_given(values))


def _check_flags() -> tuple[int, ...]:
    """Gives the steps."""
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is not given; name the folder of a run")
    checks.require_counts(
        examples=0, batch_size=0, seed=0, queries=0, attack_steps=1, restarts=2, random_points=1
    )
    checks.require_distances("epsilon", "step_size", above_zero=True)
    steps = tuple(_count(text) for text in values.steps)
    if len(steps) < 2 or 0 in steps or list(steps) != sorted(set(steps)):
        raise UserError(
            f"--steps={','.join(values.steps)}: accepted are two numbers or more, ascending, such "
            "as 1,5,10,20,50,100,1000"
        )
    return steps


def _count(text: str) -> int:
    """A number of steps; 0 for what is none."""
    small = re.fullmatch("[0-9]{1,10}", text) and int(text) <= LARGEST_COUNT
    return int(text) if small else 0


def _require_its_data_set(network: TrainedNetwork, source: TrainedNetwork) -> None:
    same = np.array_equal(network.test_set.labels, source.test_set.labels)
    if not same or not np.array_equal(network.test_set.images, source.test_set.images):
        raise UserError(
            f"--source was trained on {source.config.dataset}, --workdir on "
            f"{network.config.dataset}; transfer needs one test set"
        )


def _bar() -> Progress:
    """A bar with ETA over all attacks on a terminal, one line an attack elsewhere."""
    bar = terminal_bar(sys.stderr, total=1, unit="pass", unit_scale=True)
    told: set[str] = set()

    def report(name: str, done: float, total: float) -> None:
        if bar is not None:
            bar.total = total
            bar.set_description_str(name, refresh=False)
            bar.update(done - bar.n)
            if done == total:
                bar.close()
        elif name not in told:
            told.add(name)
            print(f"{name} ({100 * done / total:.0f} % done)", file=sys.stderr, flush=True)

    return report
