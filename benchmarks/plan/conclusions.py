"""What follows from a plan's results, in sentences."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.early_stopping import chunk_ratios
from benchmarks.method_work import METHODS
from robustjax.models import flops

Row = dict[str, Any]

WORTHWHILE = 0.97
"""Compaction is to take at most this share of the scan's time, on average over all cases."""

NO_HARM = 1.10
"""And at most this where nothing stops."""

GOAL = 0.5
"""Accuracy under PGD-20 that the speed run is to reach."""


def of_tests(row: Row, precision: str) -> str:
    """Of the tests of one precision."""
    passed, failed, skipped = (row.get(name, 0) for name in ("passed", "failed", "skipped"))
    text = f"Tests in {precision}: {passed} passed, {failed} failed, {skipped} skipped."
    if row["failures"]:
        text += " Failed: " + ", ".join(f"`{name}`" for name in row["failures"]) + "."
    return text


def of_distances(row: Row) -> str:
    """Of this device beside the CPU."""
    apart = ", ".join(f"{name} {value:.2g}" for name, value in row["distances"].items())
    verdict = "as rounding explains" if row["agrees"] else "**more than rounding explains**"
    return f"{row['model']} in {row['precision']} beside the CPU in float32, {verdict}: {apart}."


def of_early_stopping(rows: Sequence[Row], device: str) -> str:
    """Which --early_stop, and which chunk, the times of one or more batch sizes speak for.

    Compaction is to be the default where it takes less time than the scan on average (geometric
    mean over all cases that stop), and does little harm where nothing stops.

    Args:
      rows: of the benchmark, each with the same chunks; `mean_steps` and `steps` say how many steps
        are taken.
      device: on which it was measured.
    """
    chunks = list(chunk_ratios(rows[0]))
    stopping = [row for row in rows if row["mean_steps"] < row["steps"]]
    whole = [row for row in rows if row["mean_steps"] >= row["steps"]]
    if not chunks or not stopping:
        return "Nothing follows for --early_stop: no chunk was timed, or no example stopped."

    def times(chosen: Sequence[Row], part: str) -> list[float]:
        return [chunk_ratios(row)[part]["median"] for row in chosen]

    means = {part: statistics.geometric_mean(times(stopping, part)) for part in chunks}
    best = min(chunks, key=means.__getitem__)
    harm = max(times(whole, best), default=None)
    pays = means[best] <= WORTHWHILE and (harm is None or harm <= NO_HARM)
    batches = sorted({row["batch_size"] for row in rows})
    text = (
        f"{device}, batches of {' and '.join(map(str, batches))}: `--early_stop=compact` takes "
        + ", ".join(f"{means[part]:.2f} ({part} of the batch)" for part in chunks)
        + f" of the scan's time, the geometric mean over {len(stopping)} cases that stop"
    )
    if harm is not None:
        text += f", and with chunks of {best} at most {harm:.2f} where nothing stops"
    chosen = "compact" if pays else "scan"
    return f"{text}. The default that follows: `--early_stop={chosen}`, chunks of {best}."


def of_repetition(row: Row) -> str:
    """Whether a resumed run and a repeated verdict are the same."""
    flag = f"With `{row['xla_flags']}`" if row["xla_flags"] else "Without further flags"
    run = "is equal bit for bit to the unbroken one"
    if not row["resumed_run_equal"]:
        run = (
            "is not equal to the unbroken one (weights differ by up to "
            f"{row['largest_difference_of_weights']:.2g})"
        )
    verdict = "the same" if row["verdict_equal"] else "another one"
    images = "the same" if row["attacked_images_equal"] else "other ones"
    return (
        f"{flag} a resumed run {run}; a repeated verdict is {verdict}, and its attacked images "
        f"are {images}, bit for bit."
    )


def of_price(deterministic: Row, usual: Row | None) -> str:
    """What deterministic operations cost, beside the same step without them, of another process."""
    speed = deterministic["images_per_second"]
    text = f"With deterministic operations a {deterministic['method']} step of "
    text += f"{deterministic['model']} makes {speed:.4g} images/s"
    if usual is None:
        return f"{text}."
    return f"{text}, {speed / usual['images_per_second']:.2f} of what it makes without."


def of_speed_run(rows: Sequence[Row], evaluation: Row | None, images_per_step: int) -> str:
    """What the speed run reached, in what time and with how many operations.

    Args:
      rows: of its epochs.
      evaluation: of its best checkpoint; None if there is none.
      images_per_step: its batch size.
    """
    work = METHODS["trades"]
    forward = flops.forward("resnet_18", (32, 32, 3))
    # A step of the attack is a forward and a backward pass.
    passes = sum(
        images_per_step * (row["step"] - before) * work.units(row["mean_backward_passes"])
        for before, row in zip(
            itertools.chain([0], (row["step"] for row in rows)), rows, strict=False
        )
    )
    text = (
        f"{rows[-1]['epoch']} epochs in {rows[-1]['elapsed_seconds']:.0f} s, "
        f"{passes * forward / 1e15:.1f} PFLOP of ResNet-18"
    )
    if evaluation is None:
        return f"{text}; not evaluated."
    robust = evaluation["attacks"]["pgd-20"]["robust_accuracy"]
    reached = "reached" if robust >= GOAL else "missed"
    return (
        f"{text}; {100 * evaluation['clean_accuracy']:.2f} % clean, {100 * robust:.2f} % under "
        f"PGD-20 on {evaluation['examples']} test images: {100 * GOAL:.0f} % {reached}."
    )


def of_autoattack(rows: Sequence[Row]) -> str:
    """How long all attacks took on both sides together."""
    ours = sum(row["robustjax"]["seconds"] for row in rows)
    compiling = sum(row["robustjax"]["compile_seconds"] for row in rows)
    text = f"{len(rows)} attacks: {ours:.0f} s, {compiling:.0f} s of it compiling"
    if "torchattacks" not in rows[-1]:
        return f"{text}; torchattacks was not there."
    theirs = sum(row["torchattacks"]["seconds"] for row in rows)
    return f"{text}, beside {theirs:.0f} s: {ours / theirs:.2f} times."
