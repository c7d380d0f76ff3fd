"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import jax
from absl import flags

from robustjax import evaluation, own_code, parallel, reports
from robustjax.arguments import MOST_CPU_DEVICES, require_choice, require_finite, require_whole
from robustjax.attacks.threat_model import NORMS
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.cli.ball import define_allow_whole_box
from robustjax.cli.evaluate.corruptions import evaluate_corruptions
from robustjax.cli.evaluate.evaluate_run import evaluate_run
from robustjax.cli.import_weights.command import (
    NETWORK,
    define_weights_flags,
    given_flags,
    import_weights,
)
from robustjax.cli.judged_images import DATA, data_given, define_data_flags
from robustjax.config import IMPORTED
from robustjax.data.corrupted import LAYOUT
from robustjax.errors import UserError
from robustjax.evaluation import protocols
from robustjax.evaluation.given_images import FORM
from robustjax.evaluation.spec import IMAGES, STEPPED, AttackSpec
from robustjax.evaluation.summary import BY_IMAGE
from robustjax.files import Path
from robustjax.flags import NumberParser, define_attacks, define_numbers
from robustjax.reports.corruptions import table as corruption_table
from robustjax.runs.claim import has_begun
from robustjax.text import format_value

DESCRIPTION = """\
Attacks the network of a run; adds what it finds to evaluation.json and evaluation.md in its
--workdir, which sum up all that was ever measured, and a few images that each attack breaks to
adversarial_examples.json, for the report. The same command goes on where it was interrupted, and
measures nothing again that is there, unless --again says so.

  python launch/evaluate.py --workdir=runs/trades --attacks=clean,fgsm,pgd-20,cw-30,autoattack
  python launch/evaluate.py --workdir=runs/trades --attacks=autoattack --examples=1000
  python launch/evaluate.py --workdir=runs/trades --attacks=clean,pgd-20,theirs.npz
  python launch/evaluate.py --workdir=runs/trades --attacks=pgd-20 --epsilons=0,2/255,4/255,8/255
  python launch/evaluate.py --workdir=runs/nap --protocol=nap
  python launch/evaluate.py --weights=FILE --model=resnet_18 --dataset=cifar10    of no run
  python launch/evaluate.py --workdir=runs/trades --dataset=folder --data_dir=DIR --split=test
  python launch/evaluate.py --workdir=runs/trades --corruptions=CIFAR-10-C
  python launch/evaluate.py --protocol=help      the papers' evaluations"""

GROUPS = {
    "what": ["workdir", "checkpoint", "attacks", "protocol"],
    "images": ["examples", *DATA],
    "corrupted images": ["corruptions"],
    "weights without a run": ["weights", "entry", *NETWORK],
    "attack": ["norm", "epsilon", "epsilons", "step_size", "start", "success", "allow_whole_box"],
    "run": ["batch_size", "devices", "cpu_devices", "seed", "save_images", "again"],
}

STEP_SIZE_HELP = "of PGD and CW; the larger of epsilon/10 and 2 epsilon/K if not given"

_OF_ATTACKS = (
    "attacks", "protocol", "epsilon", "step_size", "start", "success", "save_images", "data_dir",
    "split", "image_size",
)  # fmt: skip
"""Flags that --corruptions has no use for."""

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
    values["norm"].help = "of the ball: linf, l2 or l1; as in training if not given"
    text("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    accepted = f"accepted are {evaluation.accepted_attacks()}, {FORM} [clean,pgd-20]"
    define_attacks(None, accepted, values)
    text("protocol", "", f"a paper's: {', '.join(protocols.PROTOCOLS)}; or help")
    count("examples", 0, "the first N of the test set; 0: all")
    define_data_flags(values, dataset=False)
    text("corruptions", "", f"{LAYOUT}; accuracies on them take the place of attacks")
    number("epsilon", None, help="radius of the ball; as in training if not given")
    radii = "radii, as 0,2/255,4/255,8/255: a curve over them, in the place of --epsilon"
    define_numbers("epsilons", radii, values)
    number("step_size", None, help=STEP_SIZE_HELP)
    text("start", None, "of PGD and CW: uniform or clean [uniform]")
    text("success", None, "of PGD and CW: the last iterate or any [last]")
    count("batch_size", 0, "examples attacked at once; as in training if 0")
    count("devices", 0, "devices that share a batch; 0: all")
    count("cpu_devices", 0, "makes the CPU this many devices")
    count("seed", 0, "of the random starts")
    define_allow_whole_box(values)
    again = "measures again what the records of the run have already"
    flags.DEFINE_bool("again", False, again, flag_values=values)
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
    enable_compilation_cache()
    workdir = _imported() if values.weights else values.workdir
    devices = parallel.local_devices(values.devices or None)
    if values.corruptions:
        _evaluate_corruptions(workdir, devices)
        return
    found = evaluate_run(
        workdir,
        values.attacks or ([] if values.protocol else _DEFAULT_ATTACKS),
        protocol=values.protocol,
        checkpoint=values.checkpoint,
        examples=values.examples,
        **data_given(values),
        norm=values.norm or "",
        epsilon=values.epsilon,
        epsilons=values.epsilons,
        step_size=values.step_size,
        start=values.start or "uniform",
        success=values.success or "last",
        batch_size=values.batch_size,
        devices=devices,
        seed=values.seed,
        save_images=values.save_images,
        again=values.again,
        allow_whole_box=values.allow_whole_box,
        resume=True,
    )
    print(reports.to_table(found.summary))
    for warning in reports.warnings(found.summary):
        app.warn(warning)
    report, numbers = found.files[1], found.files[0]
    by_image = numbers.parent / BY_IMAGE
    print(
        f"report: {report}   figures for programs: {numbers}   image by image: {by_image}",
        file=sys.stderr,
    )
    found.raise_failures()


def _check_flags() -> None:
    values = flags.FLAGS
    if not values.weights:
        given = given_flags(values, ("entry",))
        for another in ("dataset", "norm"):  # Than the run's own.
            given.pop(another, None)
        if own_code.is_own(given.get("model", "")):  # Of the run's flags.txt.
            del given["model"]
        for name in given:
            raise UserError(f"--{name}: a run says itself what it is; it goes with --weights=FILE")
        if not values.workdir:
            raise UserError(
                "--workdir is not given; name the folder of a run, or --weights=FILE --model=NAME"
            )
    if values.corruptions:
        for name in (*_OF_ATTACKS, *(() if values.weights else ("dataset", "norm"))):
            if values[name].present:
                raise UserError(
                    f"--{name}: --corruptions={values.corruptions} names the images, and nothing "
                    "attacks them; evaluate with attacks apart"
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
    _check_epsilons(specs)
    choices = {"norm": NORMS, "start": ("uniform", "clean"), "success": ("last", "any")}
    for name, accepted in choices.items():
        if values[name].value is not None:
            require_choice(f"--{name}", values[name].value, accepted)
    if values.protocol:
        of_run = () if values.weights else ("norm",)
        for name in ("attacks", *of_run, "epsilon", "epsilons", "step_size", "start", "success"):
            if values[name].present:
                raise UserError(
                    f"--{name}: --protocol={values.protocol} says what it is; give one of the two"
                )


def _check_epsilons(specs: Sequence[AttackSpec]) -> None:
    values = flags.FLAGS
    radii = values.epsilons
    if not values["epsilons"].present:
        return
    for radius in radii:
        require_finite("--epsilons", radius, 0, accepted="finite numbers, 0 or more")
    if not any(radii) or len(set(radii)) < len(radii):
        said = ",".join(format_value(radius) for radius in radii)
        raise UserError(
            f"--epsilons={said}: accepted are different radii, one or more above 0, as 0,2/255"
        )
    if values.epsilon is not None:
        raise UserError("--epsilon: --epsilons says what it is; give one of the two")
    if values.save_images:
        raise UserError(
            "--save_images: --epsilons has several balls; save the images of one, by --epsilon"
        )
    for spec in specs:
        if spec.kind == IMAGES:
            raise UserError(
                f"--attacks={spec.name}: its images are of one radius; name it without --epsilons"
            )


def _evaluate_corruptions(workdir: str, devices: Sequence[jax.Device]) -> None:
    values = flags.FLAGS
    summary, path = evaluate_corruptions(
        workdir,
        values.corruptions,
        checkpoint=values.checkpoint,
        examples=values.examples,
        batch_size=values.batch_size,
        devices=devices,
    )
    print("\n".join(corruption_table(summary)))
    if summary["missing"]:
        app.warn(f"not in the mean, for they are not there: {', '.join(summary['missing'])}")
    figure = path.with_suffix(".png")
    print(
        f"report: {path.with_suffix('.md')}   figure: {figure}   for programs: {path}",
        file=sys.stderr,
    )


def _imported() -> str:
    """The folder of the weights that --weights names; made if it is not there."""
    values = flags.FLAGS
    stem = Path(values.weights).stem
    folder = values.workdir or f"runs/{IMPORTED}-{values.model or 'network'}-{stem}"
    first = () if has_begun(folder) else ("epsilon",)
    given = given_flags(values, (*first, "data_dir", "image_size", "allow_whole_box"))
    if has_begun(folder):
        given.pop("norm", None)
    return str(import_weights(values.weights, folder, entry=values.entry, **given))
