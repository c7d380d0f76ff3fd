"""The tables of what was compiled."""

import dataclasses
import json
from collections.abc import Sequence

from benchmarks import table
from benchmarks.ahead_of_time import apart, targets
from benchmarks.ahead_of_time.steps import KEY, Row, floor
from benchmarks.ahead_of_time.targets import Target

MEBIBYTE = 2**20

HEADER = (
    "target", "chips", "network", "method", "precision", "images a chip", "options",
    "temporaries, MiB", "peak", "of the memory", "TFLOP", "of the floor", "least ms",
    "estimated ms", "utilisation", "tensors filled, %", "summed, MB", "compiling s",
)  # fmt: skip


def entries(row: Row) -> list[str]:
    """One row of the table."""
    target = targets.parse(row["target"])
    first = [target.name, str(target.chips), *(str(row[name]) for name in KEY[1:6])]
    if "flops" not in row:
        return [*first, apart.reason(row), *["-"] * (len(HEADER) - len(first) - 1)]
    least = floor(row) / (target.chip.tera_flops * 1e12)
    clock = target.chip.hertz
    estimated = row["estimated_cycles"] / clock if clock else 0.0
    # A TPU takes bfloat16's rate for float32 too, a GPU that of TF32 or less.
    at_this_rate = target.compiler == "tpu" or row["precision"] == "bfloat16"
    return [
        *first,
        f"{row['temporary_bytes'] / MEBIBYTE:.0f}",
        f"{row['peak_bytes'] / MEBIBYTE:.0f}",
        f"{100 * row['peak_bytes'] / target.chip.memory_bytes:.1f} %",
        f"{row['flops'] / 1e12:.4g}",
        f"{row['flops'] / floor(row):.2f}",
        f"{1e3 * least:.3g}" if at_this_rate else "-",
        f"{1e3 * estimated:.3g}" if estimated else "-",
        f"{100 * least / estimated:.0f} %" if estimated else "-",
        f"{100 * row['written_bytes'] / row['padded_bytes']:.0f}",
        f"{row['summed_bytes'] / 1e6:.3g}",
        f"{row['compiling_seconds']:.0f}",
    ]


@dataclasses.dataclass(frozen=True)
class Fit:
    """Which batch a chip's memory holds.

    Attributes:
      largest: images a chip.
      of_an_image: bytes that one more takes.
    """

    largest: int
    of_an_image: float


def fit(rows: Sequence[Row], target: Target) -> Fit | None:
    """The largest batch whose peak is within the memory, by the line through the two outermost.

    Args:
      rows: of one step that differ in the batch alone.
      target: its slice.

    Returns:
      None where fewer than two batches were compiled, or the larger one takes no more.
    """
    sizes = {row["batch_per_chip"]: row["peak_bytes"] for row in rows if "peak_bytes" in row}
    if len(sizes) < 2:
        return None
    fewest, most = min(sizes), max(sizes)
    slope = (sizes[most] - sizes[fewest]) / (most - fewest)
    if slope <= 0:
        return None
    room = target.chip.memory_bytes - sizes[fewest]
    return Fit(max(0, int(fewest + room / slope)), slope)


def markdown(rows: Sequence[Row]) -> str:
    """The tables of what was compiled."""
    parts = [table.markdown(HEADER, [entries(row) for row in rows])]
    kinds: dict[str, list[Row]] = {}
    same = [*(name for name in KEY if name != "batch_per_chip"), "versions"]
    for row in rows:
        kinds.setdefault(json.dumps([row[name] for name in same]), []).append(row)
    fits = []
    for of_kind in kinds.values():
        first = of_kind[0]
        target = targets.parse(first["target"])
        if found := fit(of_kind, target):
            names = ("target", "model", "method", "precision", "options")
            fits.append(
                [
                    *(first[name] for name in names),
                    f"{found.of_an_image / MEBIBYTE:.2f}",
                    str(found.largest),
                ]
            )
    if fits:
        header = ("target", "network", "method", "precision", "options", "MiB an image", "fit")
        parts += ["Images that a chip's memory holds, by the line through two batches:"]
        parts += [table.markdown(header, fits)]
    return "\n\n".join(parts)
