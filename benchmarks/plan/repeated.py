"""Whether a resumed run and a repeated verdict are the same bit for bit on this platform.

`python -m benchmarks.plan.repeated --output=FILE` starts, with and without deterministic
operations, a run without a break and one that is resumed half way, each in a process that also
attacks one network, and compares what they leave.
"""

import argparse
import dataclasses
import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import results
from robustjax import attacks, training
from robustjax.config import TrainConfig
from robustjax.data import load, to_float
from robustjax.errors import UserError
from robustjax.evaluation.trained import apply_network

ROOT = Path(__file__).resolve().parents[2]

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
WAYS = ("unbroken", "resumed")
EPOCHS = 2

Found = dict[str, np.ndarray]


def found(model: str, way: str, examples: int, batch_size: int) -> Found:
    """What one process computes.

    Args:
      model: a network for images [32, 32, 3].
      way: "unbroken", or "resumed": trained for half of the epochs, and then again for all.
      examples: random images to train on.
      batch_size: of training; the first batch is attacked.

    Returns:
      "weights" [P] after training; "images" and "success" of PGD-20 on the untrained network.
    """
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "images.npz")
        images = random.integers(0, 256, (examples, 32, 32, 3), np.uint8)
        labels = np.arange(examples) % 10
        np.savez(archive, images=images, labels=labels, num_classes=10)
        config = TrainConfig(
            method="standard",
            model=model,
            dataset="npz",
            data_dir=archive,
            augmentation="crop4-flip",
            epochs=EPOCHS,
            steps=3,
            schedule="constant",
            learning_rate=0.01,
            batch_size=batch_size,
            holdout=0,
            measure_steps=1,
            measure_examples=batch_size,
            workdir=str(Path(folder) / "run"),
            devices=1,
        )
        if way == "resumed":
            training.train(dataclasses.replace(config, epochs=EPOCHS // 2), None)
        training.train(config, None)
        trained = training.load_run(config.workdir, "latest").variables["params"]
        first = load("npz", "train", data_dir=archive)
    network = training.create_model(config, 10)
    # Of the same weights in every process.
    variables = network.init(jax.random.key(1), to_float(first.images[:1]))
    result = attacks.pgd(
        jax.random.key(0),
        jax.tree_util.Partial(apply_network(network), variables),
        to_float(first.images[:batch_size]),
        first.labels[:batch_size],
        attacks.ThreatModel("linf", 8 / 255),
        steps=20,
    )
    weights = np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(trained)])
    return {
        "weights": weights,
        "images": np.asarray(result.images),
        "success": np.asarray(result.success),
    }


def compared(unbroken: Found, resumed: Found) -> dict[str, Any]:
    """Whether two processes computed the same, bit for bit, and how far apart the weights are."""
    difference = np.abs(unbroken["weights"] - resumed["weights"]).max()
    return {
        "resumed_run_equal": _equal(unbroken["weights"], resumed["weights"]),
        "largest_difference_of_weights": float(difference),
        "verdict_equal": _equal(unbroken["success"], resumed["success"]),
        "attacked_images_equal": _equal(unbroken["images"], resumed["images"]),
    }


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def main() -> None:
    """Computes both ways with and without deterministic operations, compares and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    parser.add_argument("--model", default="resnet_18")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--way", choices=WAYS, help="computes this, and writes arrays")
    given = parser.parse_args()
    if given.way:
        arrays = found(given.model, given.way, given.examples, given.batch_size)
        np.savez(given.output, **arrays)
        return
    environment = results.environment()
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is timed: all at once.
        started = {
            (flag, way): _start(given, flag, way, Path(folder) / f"{number}_{way}.npz")
            for number, (flag, way) in enumerate(itertools.product(("", DETERMINISTIC), WAYS))
        }
        rows = []
        for flag in ("", DETERMINISTIC):
            sides = [_arrays(*started[flag, way]) for way in WAYS]
            rows.append({"model": given.model, "xla_flags": flag, **compared(*sides)})
            results.write(given.output, environment, rows)


def _start(given: Any, flag: str, way: str, path: Path) -> tuple[subprocess.Popen, Path]:
    command = [sys.executable, "-m", "benchmarks.plan.repeated", f"--way={way}"]
    command += [f"--output={path}", f"--model={given.model}"]
    command += [f"--examples={given.examples}", f"--batch_size={given.batch_size}"]
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
    # Every process is to compile for itself, as the next machine does.
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    return subprocess.Popen(command, cwd=ROOT, env=environment), path


def _arrays(process: subprocess.Popen, path: Path) -> Found:
    if process.wait():
        raise UserError(f"{path.stem}: its process ended with {process.returncode}")
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


if __name__ == "__main__":
    main()
