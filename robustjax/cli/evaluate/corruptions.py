"""`launch/evaluate.py --corruptions=DIR`: the accuracy of a run on corrupted test images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import jax

from robustjax import evaluation
from robustjax.cli import app
from robustjax.cli.evaluate.batches import batch_size_for
from robustjax.data.corrupted import open_corrupted_images
from robustjax.evaluation.corruptions import (
    load_for_corruptions,
    measure_corruptions,
    summarize_corruptions,
)
from robustjax.files import Path, require_writable
from robustjax.progress import terminal_bar
from robustjax.reports.corruptions import FILES, write_corruptions
from robustjax.runs.earlier import keep_earlier
from robustjax.runs.evaluations import RECORDS_LOCK, RECORDS_OF_CORRUPTIONS, Evaluations


def evaluate_corruptions(
    workdir: str,
    directory: str,
    *,
    checkpoint: str = "best",
    examples: int = 0,
    batch_size: int = 0,
    devices: Sequence[jax.Device] = (),
) -> tuple[dict[str, Any], Path]:
    """Measures a run on corrupted images, and writes what it found beside the run.

    What is found is recorded corruption by corruption, so that the same command goes on where it
    was interrupted, and a second one measures nothing twice. See the flags for the arguments.

    Returns:
      The content of corruptions.json, and its path.
    """
    images = open_corrupted_images(directory)
    folder = Path(workdir)
    if folder.is_dir():
        files = (*FILES, RECORDS_OF_CORRUPTIONS, RECORDS_LOCK)
        folder = require_writable(workdir, f"--workdir={workdir}", files=files)
    network = load_for_corruptions(workdir, checkpoint, images)
    config = network.config
    of_checkpoint = {
        "digest": network.fingerprint,
        "kind": checkpoint,
        "step": network.step,
        "moving_average": network.averaged,
    }
    count = min(examples or len(images.labels), len(images.labels))
    size = batch_size_for(count, batch_size or config.batch_size, devices)
    about = {
        "batch_size": size,
        "method": config.method,
        "model": config.model,
        "precision": config.precision,
        "trained_epochs": None if config.is_imported else config.epochs,
        "versions": evaluation.versions(),
        "command": app.command_line(),
    }
    store = Evaluations(folder, RECORDS_OF_CORRUPTIONS)
    bar = terminal_bar(sys.stderr, total=0, unit="severity", desc="corruptions")

    def report(name: str, done: int, total: int, accuracy: float) -> None:
        if bar is None:
            line = f"{name}: {100 * accuracy:.2f} % correct ({done} of {total})"
            print(line, file=sys.stderr, flush=True)
            return
        bar.total = total
        bar.set_postfix_str(f"{name}: {100 * accuracy:.2f} % correct", refresh=False)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    scores = []
    for score in measure_corruptions(
        network,
        images,
        examples=examples,
        batch_size=size,
        devices=devices,
        known=store.records(lambda line: print(line, file=sys.stderr)),
        checkpoint=of_checkpoint,
        about=about,
        report=report,
    ):
        if score.is_new:
            store.add([score.record])
        scores.append(score)
    summary = summarize_corruptions(scores, directory=directory, checkpoint=of_checkpoint, **about)
    kept = keep_earlier(folder / FILES[0], summary, ("checkpoint", "examples", "directory"))
    path = write_corruptions(summary, folder)
    if kept is not None:
        print(f"{path} is new; what it was before is {kept}", file=sys.stderr)
    return summary, path
