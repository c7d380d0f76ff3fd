"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence

import jax
from absl import flags
from tqdm import tqdm

from robustjax import evaluation, parallel
from robustjax.cli import app, compilation
from robustjax.evaluation import adversarial_images, protocols
from robustjax.evaluation.attack_names import AttackSpec
from robustjax.evaluation.suite import Progress
from robustjax.evaluation.trained import load_network
from robustjax.evaluation.unfinished import Unfinished
from robustjax.files import Path
from robustjax.flags import NumberParser
from robustjax.progress import terminal_bar

DESCRIPTION = """\
Attacks the network of a run; writes evaluation.json and evaluation.md into its --workdir. The same
command goes on where it was interrupted.

  python launch/evaluate.py --workdir=runs/trades --attacks=clean,fgsm,pgd-20,cw-30,autoattack
  python launch/evaluate.py --workdir=runs/trades --attacks=autoattack --examples=1000
  python launch/evaluate.py --workdir=runs/nap --protocol=nap
  python launch/evaluate.py --protocol=help      the papers' evaluations"""

GROUPS = {
    "what": ["workdir", "checkpoint", "attacks", "protocol", "examples", "data_dir"],
    "attack": ["epsilon", "step_size", "start", "success"],
    "run": ["batch_size", "devices", "cpu_devices", "seed", "save_images"],
}

UNFINISHED = "evaluation.unfinished"
ADVERSARIAL = "adversarial"
"""The folders in a run's, of an interrupted evaluation and of the adversarial images."""

_DEFAULT_ATTACKS = ("clean", "pgd-20")


def main() -> None:
    """Parses the command line and evaluates."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=flags.FLAGS, serializer=flags.ArgumentSerializer()
    )
    flags.DEFINE_string("workdir", "", "the folder of the run")
    flags.DEFINE_string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    flags.DEFINE_list("attacks", None, f"accepted are {evaluation.ACCEPTED} [clean,pgd-20]")
    flags.DEFINE_string("protocol", "", f"a paper's: {', '.join(protocols.PROTOCOLS)}; or help")
    flags.DEFINE_integer("examples", 0, "the first N of the test set; 0: all")
    flags.DEFINE_string("data_dir", "", "where the data lie; as in training if not given")
    number("epsilon", None, help="radius of the ball; as in training if not given")
    number("step_size", None, help="of PGD and CW; epsilon/10 if not given")
    flags.DEFINE_string("start", None, "of PGD and CW: uniform or clean [uniform]")
    flags.DEFINE_string("success", None, "of PGD and CW: the last iterate or any [last]")
    flags.DEFINE_integer("batch_size", 0, "examples attacked at once; as in training if 0")
    flags.DEFINE_integer("devices", 0, "devices that share a batch; 0: all")
    flags.DEFINE_integer("cpu_devices", 0, "makes the CPU this many devices")
    flags.DEFINE_integer("seed", 0, "of the random starts")
    flags.DEFINE_bool("save_images", False, "writes the adversarial images, for launch/verify.py")


def _main() -> None:
    values = flags.FLAGS
    if values.protocol == "help":
        print(protocols.describe())
        return
    _check_flags()
    if values.cpu_devices:
        parallel.force_cpu_devices(values.cpu_devices)
    compilation.enable_cache()
    summary = evaluate_run(
        values.workdir,
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
        resume=True,
    )
    print(evaluation.to_table(summary))
    for warning in evaluation.warnings(summary):
        print(f"warning: {warning}", file=sys.stderr)
    paths = evaluation.write_report(summary, Path(values.workdir))
    Unfinished(Path(values.workdir) / UNFINISHED).remove()
    print(f"report: {paths[1]}   figures for programs: {paths[0]}", file=sys.stderr)


def _check_flags() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise app.CommandError("--workdir is not given; name the folder of a run")
    for name in values.attacks or ():
        evaluation.parse_attack(name)
    for name in ("examples", "batch_size", "seed", "devices", "cpu_devices"):
        if values[name].value < 0:
            raise app.CommandError(f"--{name}={values[name].value}: accepted are 0 or more")
    for name in ("epsilon", "step_size"):
        value = values[name].value
        if value is not None and not 0 <= value < float("inf"):
            raise app.CommandError(f"--{name}={value}: accepted are finite numbers, 0 or more")
    for name, accepted in (("start", ("uniform", "clean")), ("success", ("last", "any"))):
        if values[name].value not in (None, *accepted):
            raise app.CommandError(
                f"--{name}={values[name].value}: accepted are {', '.join(accepted)}"
            )
    if values.protocol:
        fixed = ("attacks", "epsilon", "step_size", "start", "success")
        for name in fixed:
            if values[name].value is not None:
                raise app.CommandError(
                    f"--{name}: --protocol={values.protocol} says what it is; give one of the two"
                )


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
    resume: bool = False,
    quiet: bool = False,
) -> dict:
    """Evaluates the network of a run on its test set; see the flags for the arguments.

    With `resume`, what is found is kept in the run's folder until the evaluation is whole; with
    `quiet` nothing is told meanwhile.

    Returns:
      The content of evaluation.json.
    """
    network = load_network(workdir, checkpoint, data_dir=data_dir)
    config = network.config
    available = len(network.test_set.labels)
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
            Path(workdir) / UNFINISHED,
            network.variables,
            network.test_set.images,
            network.test_set.labels,
            seed,
        )
    started = time.monotonic()
    scores = evaluation.evaluate(
        wanted,
        jax.random.key(seed),
        network.logits_fn,
        network.test_set,
        threat,
        step_size=threat.epsilon / 10 if step_size is None else step_size,
        start=start,
        success=success,
        batch_size=size,
        report=None if quiet else _bars(),
        keep_images=save_images,
        unfinished=unfinished,
        devices=devices,
    )
    if save_images:
        for name, score in scores.items():
            if score.images is not None:
                path = Path(workdir) / ADVERSARIAL / f"{name}.npz"
                adversarial_images.save(path, score, network.test_set.labels)
    return evaluation.summarize(
        scores,
        **({"protocol": f"{protocol}: {protocols.PROTOCOLS[protocol].source}"} if protocol else {}),
        checkpoint={
            "kind": checkpoint,
            "step": network.step,
            "moving_average": network.averaged,
        },
        method=config.method,
        model=config.model,
        dataset=f"{config.dataset} test",
        precision=config.precision,
        seed=seed,
        batch_size=size,
        available_examples=available,
        trained_epochs=config.epochs,
        elapsed_seconds=time.monotonic() - started,
    )


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
