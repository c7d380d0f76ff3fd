"""How long it takes from starting the command to the end of its first step, cache cold and warm."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from robustjax.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


def twice(model: str, *, batch_size: int, steps: int, method: str) -> list[dict[str, Any]]:
    """Starts training twice with one compilation cache, which the first start finds empty.

    The data set is one batch, so that nothing is asked of the loop after the first step.

    Args:
      model: digits_cnn sees the embedded digits, every other network random images [32, 32, 3].
      batch_size: of the step.
      steps: of its attack.
      method: of training.

    Returns:
      For each start "seconds" in all, "compile_seconds" (lowering, and compiling or reading from
      the cache), "programs" compiled or read, "from_cache" of them read, and "cached_files" then.
    """
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        chosen = _data(model, batch_size, Path(folder))
        flags = [
            *chosen,
            f"--method={method}",
            f"--model={model}",
            f"--steps={steps}",
            f"--batch_size={batch_size}",
            f"--train_examples={batch_size}",
            "--holdout=0",
            "--epochs=1",
        ]
        return [_start([*flags, f"--workdir={folder}/{name}"], cache) for name in ("one", "two")]


def _data(model: str, batch_size: int, folder: Path) -> list[str]:
    if model == "digits_cnn":
        return ["--dataset=digits"]
    random = np.random.default_rng(0)
    shape = (28, 28, 1) if model in ("small_cnn", "mnist_cnn") else (32, 32, 3)
    images = random.integers(0, 256, (batch_size, *shape), np.uint8)
    labels = np.arange(batch_size) % 10
    np.savez(folder / "images.npz", images=images, labels=labels, num_classes=10)
    return ["--dataset=npz", f"--data_dir={folder / 'images.npz'}", "--augmentation=none"]


def _start(flags: list[str], cache: Path) -> dict[str, Any]:
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    started = time.time()
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.first_step", *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise UserError(f"launch/train.py {' '.join(flags)} failed:\n{found.stderr.strip()}")
    seen = json.loads(found.stdout.splitlines()[-1])
    seen["seconds"] = seen.pop("done_at") - started
    # Beside each program JAX keeps a file with the time of its last use.
    seen["cached_files"] = sum(path.name.endswith("-cache") for path in cache.rglob("*"))
    return seen
