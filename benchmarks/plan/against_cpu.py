"""Losses, a network, an attack and a train step on this device beside the same on the CPU.

`python -m benchmarks.plan.against_cpu --output=FILE` computes them on the CPU and, at the same
time, in every precision of this platform, each in a process of its own, and writes how far they lie
apart.
"""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import precision, results
from benchmarks.library_step import LibraryStep
from benchmarks.workload import Setting, create, train_config
from robustjax import attacks, losses, platforms
from robustjax.data import to_float
from robustjax.errors import UserError
from robustjax.training.experiment import create_model

ROOT = Path(__file__).resolve().parents[2]

ACCEPTED = {
    "float32": {"losses": 1e-5, "logits": 1e-4, "gradient": 1e-3, "attack": 0.02, "update": 0.2},
    "tf32": {"losses": 1e-5, "logits": 0.01, "gradient": 0.1, "attack": 0.1, "update": 0.5},
    "bfloat16": {"losses": 1e-5, "logits": 0.05, "gradient": 0.5, "attack": 0.3, "update": 0.8},
}
"""Relative distances that rounding is granted; of the attack, the share of pixels that may differ:
where a gradient is nearly zero, rounding decides which way a pixel moves."""

_SAME_PIXEL = 1e-4

NUM_CLASSES = 10


def computed(model: str, kind: str, batch_size: int) -> dict[str, np.ndarray]:
    """What is compared, computed on the platform of this process.

    Args:
      model: a network for images [32, 32, 3].
      kind: one of `precision.PRECISIONS`.
      batch_size: images.

    Returns:
      "losses" and "gradient of the losses" [L, B(, K)], "logits" [B, K], "gradient" [B, H, W, C] of
      the mean cross-entropy, "attack" [B, H, W, C] after one step of PGD, "update" [P] of the
      weights by one step of training whose attack has one step, "loss" of that step.
    """
    precision.set_up(kind)
    setting = Setting("trades", model, batch_size=batch_size, steps=1, precision=kind)
    workload = create(setting)
    # What depends on this platform's rounding is left out: statistics and labels.
    state = jax.tree.map(np.asarray, workload.experiment.initial_state())
    labels = np.arange(batch_size, dtype=np.int32) % NUM_CLASSES
    workload = dataclasses.replace(workload, state=state, labels=labels)
    found = _losses(batch_size)
    network = create_model(train_config(setting), NUM_CLASSES)
    images = to_float(workload.images)

    @jax.jit
    def logits_fn(images: jax.Array) -> jax.Array:
        return network.apply(state.variables(), images, train=False)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = logits_fn(images)
        return losses.cross_entropy(logits, labels).mean(), logits

    found["gradient"], found["logits"] = gradient(images)
    threat = attacks.ThreatModel("linf", 8 / 255)
    found["attack"] = attacks.pgd(
        jax.random.key(0), logits_fn, images, labels, threat, steps=1, step_size=8 / 255
    ).images
    step = LibraryStep(workload)
    step.reset()
    found["loss"] = np.float32(step.run())
    moved = step.host_state().params
    found["update"] = np.concatenate(
        [
            (np.asarray(new) - np.asarray(old)).ravel()
            for new, old in zip(jax.tree.leaves(moved), jax.tree.leaves(state.params), strict=True)
        ]
    )
    return {name: np.asarray(value) for name, value in found.items()}


def _losses(batch_size: int) -> dict[str, jax.Array]:
    """The losses of random logits, and their gradients."""
    random = np.random.default_rng(0)
    clean, adversarial = (
        jnp.asarray(random.normal(0, 3, (batch_size, NUM_CLASSES)), jnp.float32) for _ in range(2)
    )
    labels = np.arange(batch_size) % NUM_CLASSES
    functions = {
        "cross_entropy": lambda logits: losses.cross_entropy(logits, labels),
        "boosted_cross_entropy": lambda logits: losses.boosted_cross_entropy(logits, labels),
        "dlr": lambda logits: losses.dlr(logits, labels),
        "kl_divergence": lambda logits: losses.kl_divergence(clean, logits),
        "trades": lambda logits: losses.trades(clean, logits, labels),
        "mart": lambda logits: losses.mart(clean, logits, labels),
        "nap": lambda logits: losses.nap(clean, logits, labels),
    }

    @jax.jit
    def together(logits: jax.Array) -> dict[str, jax.Array]:
        return {
            "losses": jnp.stack([function(logits) for function in functions.values()]),
            "gradient of the losses": jnp.stack(
                [
                    jax.grad(lambda logits, function=function: function(logits).sum())(logits)
                    for function in functions.values()
                ]
            ),
        }

    return together(adversarial)


def distances(reference: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """How far what was found lies from the reference: |a − b| / |b|, or a share of the pixels."""

    def distance(name: str) -> float:
        ours, theirs = (side[name].astype(np.float64) for side in (found, reference))
        if name == "attack":
            return float(np.mean(np.abs(ours - theirs) > _SAME_PIXEL))
        return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

    return {name: distance(name) for name in reference}


def agrees(distances: dict[str, float], kind: str) -> bool:
    """Whether rounding in this precision explains the distances; a NaN agrees with nothing."""
    return all(distances[name] <= accepted for name, accepted in ACCEPTED[kind].items())


def main() -> None:
    """Computes everything in processes of their own, compares and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--model", default="resnet_18")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--kind", help="computes in this precision, and writes arrays")
    given = parser.parse_args()
    if given.kind:
        np.savez(given.output, **computed(given.model, given.kind, given.batch_size))
        return
    environment = results.environment()
    on_gpu = platforms.of_process() == "gpu"
    kinds = ["float32", *(["tf32", "bfloat16"] if on_gpu else [])]
    with tempfile.TemporaryDirectory() as folder:
        reference = _start(given, "float32", Path(folder) / "cpu.npz", {"JAX_PLATFORMS": "cpu"})
        started = {kind: _start(given, kind, Path(folder) / f"{kind}.npz", {}) for kind in kinds}
        expected = reference.arrays()
        rows: list[dict[str, Any]] = []
        for kind, child in started.items():
            apart = distances(expected, child.arrays())
            rows.append({"model": given.model, "precision": kind, "distances": apart})
            rows[-1]["agrees"] = agrees(apart, kind)
            results.write(given.output, environment, rows)


@dataclasses.dataclass(frozen=True)
class _Child:
    process: subprocess.Popen
    path: Path

    def arrays(self) -> dict[str, np.ndarray]:
        if self.process.wait():
            raise UserError(f"{self.path.stem}: its process ended with {self.process.returncode}")
        with np.load(self.path, allow_pickle=False) as archive:
            return dict(archive)


def _start(given: Any, kind: str, path: Path, environment: dict[str, str]) -> _Child:
    command = [sys.executable, "-m", "benchmarks.plan.against_cpu", f"--kind={kind}"]
    command += [f"--output={path}", f"--model={given.model}", f"--batch_size={given.batch_size}"]
    return _Child(
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}),
        path,
    )


if __name__ == "__main__":
    main()
