"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from absl import flags
from tqdm import tqdm

from robustjax import evaluation, own_code, parallel, reports
from robustjax.arguments import MOST_CPU_DEVICES, require_choice, require_whole
from robustjax.cli import app, checks, compilation
from robustjax.cli.import_weights.command import (
    NETWORK,
    define_weights_flags,
    given_flags,
    import_weights,
)
from robustjax.config import IMPORTED, TrainConfig
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.evaluation import accumulated, adversarial_images, protocols
from robustjax.evaluation.spec import STEPPED, AttackSpec
from robustjax.evaluation.suite import Progress
from robustjax.evaluation.trained import load_network
from robustjax.files import Path, require_writable
from robustjax.flags import NumberParser, define_attacks
from robustjax.progress import terminal_bar
from robustjax.reports.examples import add_examples
from robustjax.runs.claim import has_begun
from robustjax.runs.evaluations import RECORDS, RECORDS_LOCK
from robustjax.runs.names import EVALUATION, EXAMPLES
from robustjax.runs.resumable import Unfinished
from robustjax.training.units import require_inside_box

DESCRIPTION = """\
Attacks the network of a run; adds what it finds to evaluation.json and evaluation.md in its
--workdir, which sum up all that was ever measured, and a few images that each attack breaks to
adversarial_examples.json, for the report. The same command goes on where it was interrupted.

  python launch/evaluate.py --workdir=runs/trades --attacks=clean,fgsm,pgd-20,cw-30,autoattack
  python launch/evaluate.py --workdir=runs/trades --attacks=autoattack --examples=1000
  python launch/evaluate.py --workdir=runs/nap --protocol=nap
  python launch/evaluate.py --weights=FILE --model=resnet_18 --dataset=cifar10    of no run
  python launch/evaluate.py --protocol=help      the papers' evaluations"""

GROUPS = {
    "what": ["workdir", "checkpoint", "attacks", "protocol", "examples", "data_dir"],
    "weights without a run": ["weights", "entry", *NETWORK, "dataset", "norm"],
    "attack": ["epsilon", "step_size", "start", "success", "allow_whole_box"],
    "run": ["batch_size", "devices", "cpu_devices", "seed", "save_images"],
}

UNFINISHED = "evaluation.unfinished"
ADVERSARIAL = "adversarial"
"""The folders in a run's, of an interrupted evaluation and of the adversarial images."""

STEP_SIZE_HELP = "of PGD and CW; the larger of epsilon/10 and 2 epsilon/K if not given"

_DEFAULT_ATTACKS = ("clean", "pgd-20")


def main() -> None:
    """Parses the command line and evaluates."""
    app.run(_main, define_evaluate_flags, description=DESCRIPTION, groups=GROUPS)


def define_evaluate_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/evaluate.py."""
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=values, serializer=flags.ArgumentSerializer()
    )
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    count = functools.partial(flags.DEFINE_integer, flag_values=values)
    text("workdir", "", "the folder of the run; of --weights, one that is made")
    define_weights_flags(values)
    text("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    accepted = f"accepted are {evaluation.accepted_attacks()} [clean,pgd-20]"
    define_attacks(None, accepted, values)
    text("protocol", "", f"a paper's: {', '.join(protocols.PROTOCOLS)}; or help")
    count("examples", 0, "the first N of the test set; 0: all")
    text("data_dir", "", "where the data lie; as in training if not given")
    number("epsilon", None, help="radius of the ball; as in training if not given")
    number("step_size", None, help=STEP_SIZE_HELP)
    text("start", None, "of PGD and CW: uniform or clean [uniform]")
    text("success", None, "of PGD and CW: the last iterate or any [last]")
    count("batch_size", 0, "examples attacked at once; as in training if 0")
    count("devices", 0, "devices that share a batch; 0: all")
    count("cpu_devices", 0, "makes the CPU this many devices")
    count("seed", 0, "of the random starts")
    checks.define_allow_whole_box(values)
    saves = "writes the adversarial images, for launch/verify.py"
    flags.DEFINE_bool("save_images", False, saves, flag_values=values)


def _main() -> None:
    values = flags.FLAGS
    if values.protocol == "help":
        print(protocols.describe())
        return
    _check_flags()
    if values.cpu_devices:
        parallel.force_cpu_devices(values.cpu_devices)
    compilation.enable_cache()
    found = evaluate_run(
        _imported() if values.weights else values.workdir,
        values.attacks or ([] if values.protocol else _DEFAULT_ATTACKS),
        protocol=values.protocol,
        checkpoint=values.checkpoint,
        examples=values.examples,
        data_dir=values.data_dir,
        epsilon=values.epsilon,
        step_size=values.step_size,
        start=values.start or "uniform",
        success=values.success or "last",
        batch_size=values.batch_size,
        devices=parallel.local_devices(values.devices or None),
        seed=values.seed,
        save_images=values.save_images,
        allow_whole_box=values.allow_whole_box,
        resume=True,
    )
    print(reports.to_table(found.summary))
    for warning in reports.warnings(found.summary):
        app.warn(warning)
    report, numbers = found.files[1], found.files[0]
    print(f"report: {report}   figures for programs: {numbers}", file=sys.stderr)
    found.raise_failures()


def _check_flags() -> None:
    values = flags.FLAGS
    if not values.weights:
        given = given_flags(values, ("entry",))
        if own_code.is_own(given.get("model", "")):  # Of the run's flags.txt.
            del given["model"]
        for name in given:
            raise UserError(f"--{name}: a run says itself what it is; it goes with --weights=FILE")
        if not values.workdir:
            raise UserError(
                "--workdir is not given; name the folder of a run, or --weights=FILE --model=NAME"
            )
    if values.attacks == []:
        raise UserError("--attacks= is empty: accepted are names, as clean,pgd-20")
    specs = [evaluation.parse_attack(name) for name in values.attacks or _DEFAULT_ATTACKS]
    if not values.protocol and not any(spec.kind in STEPPED for spec in specs):
        for name in ("step_size", "start", "success"):
            if values[name].value is not None:
                app.warn(f"--{name}: no attack of --attacks goes by it; PGD and CW do")
    checks.require_counts(examples=0, batch_size=0, seed=0, devices=0)
    require_whole("--cpu_devices", values.cpu_devices, 0, MOST_CPU_DEVICES)
    checks.require_distances("epsilon")
    checks.require_distances("step_size", above_zero=True)
    for name, accepted in (("start", ("uniform", "clean")), ("success", ("last", "any"))):
        if values[name].value is not None:
            require_choice(f"--{name}", values[name].value, accepted)
    if values.protocol:
        fixed = ("attacks", "epsilon", "step_size", "start", "success")
        for name in fixed:
            if values[name].value is not None:
                raise UserError(
                    f"--{name}: --protocol={values.protocol} says what it is; give one of the two"
                )


def _imported() -> str:
    """The folder of the weights that --weights names; made if it is not there."""
    values = flags.FLAGS
    stem = Path(values.weights).stem
    folder = values.workdir or f"runs/{IMPORTED}-{values.model or 'network'}-{stem}"
    first = () if has_begun(folder) else ("epsilon",)
    given = given_flags(values, (*first, "data_dir", "allow_whole_box"))
    return str(import_weights(values.weights, folder, entry=values.entry, **given))


class Evaluated(NamedTuple):
    """What an evaluation found, and what became of it.

    Attributes:
      summary: of this evaluation alone, as `evaluation.summarize` has it.
      files: evaluation.json and evaluation.md, which sum up all evaluations of the run.
      failures: the attacks that failed, and why.
    """

    summary: dict
    files: tuple[Path, Path]
    failures: dict[str, Exception]

    def raise_failures(self) -> None:
        """Raises, now that the rest is written, what went wrong with an attack."""
        if not self.failures:
            return
        first = next(iter(self.failures.values()))
        if not app.is_foreseen(first):
            raise first
        lines = [f"{name}: {app.describe(error)}" for name, error in self.failures.items()]
        raise UserError("the other attacks are in the report; " + "; ".join(lines))


def evaluate_run(
    workdir: str,
    attack_names: Sequence[str],
    *,
    protocol: str = "",
    checkpoint: str = "best",
    examples: int = 0,
    data_dir: str = "",
    epsilon: float | None = None,
    step_size: float | None = None,
    start: str = "uniform",
    success: str = "last",
    batch_size: int = 0,
    devices: Sequence[jax.Device] = (),
    seed: int = 0,
    save_images: bool = False,
    allow_whole_box: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Evaluated:
    """Evaluates the network of a run on its test set, and adds what is found to its records.

    See the flags for the arguments. With `resume`, what is found is kept in the run's folder until
    the evaluation is whole; with `quiet` nothing is told meanwhile.
    """
    folder = Path(workdir)
    if folder.is_dir():
        folder = require_writable(
            workdir,
            f"--workdir={workdir}",
            files=(EVALUATION, "evaluation.md", EXAMPLES, RECORDS, RECORDS_LOCK),
            folders=(UNFINISHED, ADVERSARIAL),
        )
    network = load_network(workdir, checkpoint, data_dir=data_dir)
    config = network.config
    if not allow_whole_box:
        height, width, channels = network.test_set.images.shape[1:]
        given = {"epsilon": epsilon, "step_size": step_size}
        distances = {f"--{name}={value:g}": value for name, value in given.items() if value}
        for attack in attack_names:
            distances |= evaluation.parse_attack(attack).own_distances()
        for said, value in distances.items():
            require_inside_box(said, value, config.norm, height * width * channels)
    available = len(network.test_set.labels)
    data: dict[str, Any] = {
        "digest": digest(network.test_set.images, network.test_set.labels),
        "dataset": f"{config.dataset} test",
        "available_examples": available,
        "own": _is_own_data(config, data_dir),
    }
    network = network.first(examples or available)
    wanted: Sequence[str | AttackSpec] = attack_names
    if protocol:
        wanted = protocols.protocol_attacks(protocol, config.dataset)
    threat = network.threat(epsilon)
    total = len(network.test_set.labels)
    size = min(batch_size or config.batch_size, total)
    if len(devices) > 1:
        # A short last batch is filled up, so a small set may be too.
        size = -(-size // len(devices)) * len(devices) if size == total else size
        parallel.per_device_batch(size, len(devices))
    unfinished = None
    if resume:
        unfinished = Unfinished(
            folder / UNFINISHED,
            network.variables,
            network.test_set.images,
            network.test_set.labels,
            seed,
        )
    started = time.monotonic()
    failures: dict[str, Exception] = {}
    scores = evaluation.evaluate(
        wanted,
        jax.random.key(seed),
        network.logits_fn,
        network.test_set,
        threat,
        step_size=step_size,
        start=start,
        success=success,
        batch_size=size,
        report=None if quiet else _bars(),
        keep_images=save_images,
        unfinished=unfinished,
        devices=devices,
        failures=failures,
    )
    weights = digest(network.variables)
    if save_images:
        for name, score in scores.items():
            if score.images is not None:
                path, kept = adversarial_images.save(
                    folder / ADVERSARIAL,
                    name,
                    score,
                    network.test_set.labels,
                    weights=weights,
                    data=data["digest"],
                    seed=seed,
                )
                if kept is not None:
                    print(f"{path} is new; what it was before is {kept}", file=sys.stderr)
    source = f"{protocol}: {protocols.PROTOCOLS[protocol].source}" if protocol else None
    records = accumulated.records_of(
        scores,
        data=data,
        checkpoint={
            "digest": weights,
            "kind": checkpoint,
            "step": network.step,
            "moving_average": network.averaged,
        },
        about={
            "protocol": source,
            "command": app.command_line(),
            "method": config.method,
            "model": config.model,
            "precision": config.precision,
            "seed": seed,
            "batch_size": size,
            "trained_epochs": None if config.is_imported else config.epochs,
            "elapsed_seconds": time.monotonic() - started,
            "versions": evaluation.versions(),
        },
    )
    of_run = accumulated.add_to_run(
        folder, records, config.norm, config.test_epsilon, functools.partial(print, file=sys.stderr)
    )
    files = reports.write_report(of_run, folder)
    add_examples(
        folder,
        scores,
        network.test_set.class_names,
        dataset=data["dataset"],
        checkpoint={"kind": checkpoint, "step": network.step},
    )
    if unfinished is not None and not failures:
        unfinished.remove()
    return Evaluated(accumulated.summary_of(records), files, failures)


def _is_own_data(config: TrainConfig, data_dir: str) -> bool:
    """Whether the test set is the run's own: of an .npz, whether the file is."""
    if config.dataset != "npz" or not data_dir:
        return True
    return os.path.realpath(data_dir) == os.path.realpath(config.data_dir)


def _bars() -> Progress:
    """A bar with ETA and running accuracy on a terminal, one line an attack elsewhere."""
    bars: dict[str, tqdm | None] = {}

    def report(name: str, done: int, of: int, accuracy: float) -> None:
        if name not in bars:
            bars[name] = terminal_bar(sys.stderr, total=of, desc=name, unit="image", initial=0)
        bar = bars[name]
        if bar is not None:
            bar.set_postfix_str(f"{100 * accuracy:.2f} % correct", refresh=False)
            bar.update(done - bar.n)
            if done == of:
                bar.close()
        elif done == of:
            print(f"{name}: {100 * accuracy:.2f} % correct", file=sys.stderr, flush=True)

    return report
