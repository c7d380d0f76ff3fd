"""The benchmark of AutoAttack: seconds and verdicts beside the same ensemble in PyTorch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks import autoattack_subject, matrix_rate, peers, precision, results, table
from benchmarks.autoattack_subject import Subject
from benchmarks.autoattack_work import ATTACKS, Budget
from benchmarks.library_autoattack import CompileSeconds, LibraryAutoAttack
from benchmarks.neighbours import WORTH_A_WARNING, Neighbours
from benchmarks.progress import Progress
from robustjax.attacks import ThreatModel
from robustjax.errors import UserError
from robustjax.models import flops

DESCRIPTION = """\
Times standard AutoAttack beside the same ensemble made of torchattacks, and compares verdicts.

  python -m benchmarks autoattack --workdirs=runs/mnist,runs/cifar10 --examples=1000
  python -m benchmarks autoattack --models=small_cnn,resnet_18        # trained on digits, at once
  python -m benchmarks autoattack --models=small_cnn --steps=10 --queries=100 --examples=32

Both sides attack the same images of the same network, PyTorch with its weights copied, in batches
of what they themselves have not broken yet; they take turns attack by attack. Compilation is part
of the library's seconds and also given alone. The random draws differ, and so do the verdicts of a
few images; a peer whose logits differ is refused. The floor of an attack is what it must spend on
the images that withstand it, at the rate of the fastest large matrix product; what it spends on
images that it breaks comes on top."""

GROUPS = {
    "what": ["workdirs", "checkpoint", "data_dir", "models", "train_epochs", "epsilon"],
    "size": ["examples", "attack_batch_size", "steps", "queries"],
    "run": ["peer", "threads", "precision", "seed", "output"],
}

NORMS = ("linf", "l2")
"""Of the balls that the peer has, and the units of work are counted for."""

LOGITS_TOLERANCE = {"float32": 1e-4, "tf32": 0.01}

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("workdirs", [], "runs whose networks are attacked on their test images")
    flags.DEFINE_string("checkpoint", "best", "of the runs, best or latest")
    flags.DEFINE_string("data_dir", "", "where the runs' data lies; where it lay if not given")
    flags.DEFINE_list(
        "models", ["small_cnn", "resnet_18"], "without --workdirs: networks trained on digits first"
    )
    flags.DEFINE_integer("train_epochs", 6, "of that training, 512 images each")
    flags.DEFINE_float("epsilon", None, "of the ball [the run's; 0.1 on digits]")
    flags.DEFINE_integer("examples", 128, "test images, the first ones")
    flags.DEFINE_integer("attack_batch_size", 128, "examples that are attacked together")
    flags.DEFINE_integer("steps", 100, "of the gradient attacks; fewer to try it out")
    flags.DEFINE_integer("queries", 5000, "of Square; fewer to try it out")
    flags.DEFINE_bool("peer", True, "torchattacks; --nopeer times the library alone")
    flags.DEFINE_integer("threads", None, "of PyTorch on the CPU; as many as cores if not given")
    flags.DEFINE_string("precision", None, "float32 or, on NVIDIA GPUs and there the default, tf32")
    flags.DEFINE_integer("seed", 0, "of the training and the attacks")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Measures everything that the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    for name in ("examples", "attack_batch_size", "steps", "queries", "train_epochs"):
        if values[name].value < 1:
            raise UserError(f"--{name}={values[name].value}: accepted are 1 or more")
    kind = values.precision or precision.defaults()[0]
    if kind not in LOGITS_TOLERANCE:
        raise UserError(f"--precision={kind}: accepted are {', '.join(LOGITS_TOLERANCE)}")
    precision.set_up(kind)
    if values.peer:
        _require_peer()
        if not values.workdirs:
            peers.require_counterparts(values.models, "--nopeer times the library alone")
    environment = results.environment()
    print(results.describe(environment), flush=True)
    size = matrix_rate.default_size()
    rate = matrix_rate.best_rate(matrix_rate.jax_product(size, kind), size)
    names = values.workdirs or values.models
    progress = Progress(len(names), len(names) * len(ATTACKS) * (1 + values.peer))
    rows: list[Row] = []
    for name in names:
        with progress.preparing(f"{name}: preparing"):
            subject = _subject(name)
        for row in measure(subject, kind, rate, progress):
            rows.append(row)
            progress.say("  " + "  ".join(entries(row)))
            results.write(values.output, environment, rows)
    progress.close()
    print(table.markdown(HEADER, [entries(row) for row in rows]))
    if any((row["cpu_share_of_others"] or 0) > WORTH_A_WARNING for row in rows):
        print("Other processes used the CPU meanwhile: these ratios are not to be trusted.")


def measure(subject: Subject, kind: str, rate: float, progress: Progress) -> Iterator[Row]:
    """The rows of one network, an attack each, as soon as they are there.

    Args:
      subject: the network.
      kind: precision.
      rate: operations per second of a matrix product, for the floor.
      progress: told of every attack.

    Raises:
      UserError: the peer's logits differ from the library's, or it has no such ball.
    """
    values = flags.FLAGS
    batch_size = values.attack_batch_size
    if subject.norm not in NORMS:
        raise UserError(f"{subject.name}: norm={subject.norm}: accepted are {', '.join(NORMS)}")
    threat = ThreatModel(subject.norm, subject.epsilon)
    classes = int(jax.eval_shape(subject.logits_fn, subject.images[:1]).shape[1])
    budget = Budget(values.steps, values.queries, min(9, classes - 1))
    ours = LibraryAutoAttack(
        subject.logits_fn,
        subject.images,
        subject.labels,
        threat,
        budget=budget,
        batch_size=batch_size,
        seed=values.seed,
    )
    sides: dict[str, Any] = {"robustjax": ours}
    if values.peer:
        sides["torchattacks"] = _peer(subject, budget, kind, ours.logits)
    forward = flops.forward(subject.name, subject.images.shape[1:])
    for attack in ATTACKS:
        row: Row = {
            "model": subject.name,
            "attack": attack,
            "examples": len(subject.labels),
            "batch_size": batch_size,
            "epsilon": subject.epsilon,
            "norm": subject.norm,
            "precision": kind,
            **dataclasses.asdict(budget),
        }
        with Neighbours() as neighbours:
            for name, side in sides.items():
                row[name] = _timed(side, attack)
                progress.tick()
        row["cpu_share_of_others"] = neighbours.share
        row["units"] = budget.units(attack)
        withstood = row["robustjax"]["robust"]
        row["floor_seconds"] = row["units"] * withstood * forward / rate
        row["forward_flops_per_image"], row["matrix_flops_per_second"] = forward, rate
        if values.peer:
            row["time_over_peer"] = row["robustjax"]["seconds"] / row["torchattacks"]["seconds"]
            same = np.mean(ours.robust == sides["torchattacks"].robust)
            row["equal_verdicts"] = float(same)
        yield row


def _timed(side: Any, attack: str) -> Row:
    """One attack of one side on what it has not broken itself."""
    attacked = int(side.robust.sum())
    with CompileSeconds() as compiling:
        started = time.perf_counter()
        side.run(attack)
        seconds = time.perf_counter() - started
    return {
        "attacked": attacked,
        "seconds": seconds,
        "compile_seconds": compiling.total,
        "robust": int(side.robust.sum()),
        "robust_accuracy": float(side.robust.mean()),
    }


def _subject(name: str) -> Subject:
    values = flags.FLAGS
    if values.workdirs:
        return autoattack_subject.of_run(
            name,
            values.checkpoint,
            examples=values.examples,
            data_dir=values.data_dir,
            epsilon=values.epsilon,
        )
    return autoattack_subject.trained_on_digits(
        name,
        epochs=values.train_epochs,
        examples=values.examples,
        epsilon=values.epsilon,
        seed=values.seed,
    )


def _require_peer() -> None:
    try:
        import torch
        import torchattacks  # noqa: F401
    except ImportError as error:
        raise UserError(
            "the peer needs PyTorch and torchattacks, see benchmarks/requirements.txt; "
            "--nopeer times the library alone"
        ) from error
    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        raise UserError("JAX runs on a GPU and this PyTorch cannot; --nopeer leaves it out")


def _peer(subject: Subject, budget: Budget, kind: str, logits: np.ndarray) -> Any:
    """The ensemble in PyTorch, on a copy of the network."""
    from benchmarks.pytorch import models, step, weights
    from benchmarks.pytorch.autoattack import TorchAutoAttack

    values = flags.FLAGS
    step.set_up(kind, values.threads or results.usable_cores())
    try:
        model = models.create(subject.name, logits.shape[1])
    except ValueError as error:
        raise UserError(f"{error}; --nopeer times the library alone") from error
    weights.load(model, weights.to_torch(*subject.variables.values()))
    peer = TorchAutoAttack(
        model,
        subject.images,
        subject.labels,
        norm=subject.norm,
        epsilon=subject.epsilon,
        budget=budget,
        batch_size=values.attack_batch_size,
        seed=values.seed,
        device="cuda" if jax.default_backend() == "gpu" else "cpu",
    )
    difference = float(np.abs(peer.logits() - logits).max() / np.abs(logits).max())
    if not difference <= LOGITS_TOLERANCE[kind]:
        raise UserError(
            f"{subject.name}: PyTorch's logits differ from the library's by {difference:.3g} of "
            f"their size; {LOGITS_TOLERANCE[kind]:g} is accepted"
        )
    return peer


HEADER = (
    "network", "attack", "images", "robustjax s", "of it compiling", "torchattacks s", "ratio",
    "robust %", "torchattacks' %", "same verdicts %", "floor s", "of the floor",
)  # fmt: skip


def entries(row: Row) -> list[str]:
    """One row of the table."""
    ours, theirs = row["robustjax"], row.get("torchattacks")
    share = 100 * row["floor_seconds"] / ours["seconds"]
    return [
        row["model"],
        row["attack"],
        str(ours["attacked"]),
        f"{ours['seconds']:.3g}",
        f"{ours['compile_seconds']:.3g}",
        f"{theirs['seconds']:.3g}" if theirs else "-",
        f"{row['time_over_peer']:.2f}" if theirs else "-",
        f"{100 * ours['robust_accuracy']:.2f}",
        f"{100 * theirs['robust_accuracy']:.2f}" if theirs else "-",
        f"{100 * row['equal_verdicts']:.2f}" if theirs else "-",
        f"{row['floor_seconds']:.3g}",
        f"{share:.0f} %",
    ]
