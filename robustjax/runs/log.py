"""What a run tells: one row an epoch in metrics.jsonl, a progress bar or a line on the terminal."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from robustjax.arguments import is_finite, is_number
from robustjax.files import Path, parse_json, write_whole
from robustjax.progress import terminal_bar

Row = dict[str, Any]

MAY_BE_MISSING = ("holdout_clean_accuracy", "holdout_robust_accuracy")
"""Of a row: null where nothing is held out."""

KEYS = (
    "epoch",
    "step",
    "loss",
    "train_clean_accuracy",
    "train_robust_accuracy",
    *MAY_BE_MISSING,
    "learning_rate",
    "mean_backward_passes",
    "images_per_second",
    "elapsed_seconds",
)
"""Of every row."""


class MetricsLog:
    """The rows of metrics.jsonl, one JSON object an epoch.

    Args:
      path: of the file; made with the first row.
      writes: whether this process writes it (one process of a run does).
      rows: of the epochs so far, as the checkpoint that training goes on from has them. Nothing
        depends on what the file says: it is written anew, so that a damaged line comes back.
    """

    def __init__(self, path: Path, *, writes: bool = True, rows: Sequence[Row] = ()) -> None:
        self._path = path
        self._writes = writes
        self._rows = list(rows)
        if writes and (self._rows or path.exists()):
            self._write()

    def rows(self) -> list[Row]:
        """The rows so far."""
        return list(self._rows)

    def append(self, row: Row) -> None:
        """Adds a row; the file has it when this returns."""
        self._rows.append(row)
        if self._writes:
            self._write()

    def _write(self) -> None:
        if not self._rows:
            self._path.unlink()
            return
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in self._rows))


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl, one for each epoch; lines that are damaged are left out.

    A row may lack some of the `KEYS`, as those of other versions do.
    """
    rows = {}
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if is_row(row):
            rows[row["epoch"]] = row
    return [rows[epoch] for epoch in sorted(rows)]


def is_row(row: Any) -> bool:
    """Whether a JSON value is the row of an epoch: what it has of the `KEYS` are numbers."""
    if not isinstance(row, dict) or row.get("epoch") is None:
        return False
    found = {key: row[key] for key in KEYS if row.get(key) is not None}
    counts = (found[key] for key in ("epoch", "step") if key in found)
    return all(is_number(value) and is_finite(value) for value in found.values()) and all(
        isinstance(count, int) and count >= 1 for count in counts
    )


def is_whole_row(row: Any) -> bool:
    """Whether a JSON value is the row of an epoch, with all that a row has."""
    return is_row(row) and all(
        key in row and (row[key] is not None or key in MAY_BE_MISSING) for key in KEYS
    )


class Progress:
    """Shows how far training is: a bar with an ETA on a terminal, one line an epoch elsewhere.

    Args:
      total_steps: of the whole run.
      first_step: where this process starts.
      epochs: of the whole run.
      stream: where to write; None shows nothing.
    """

    def __init__(
        self, total_steps: int, first_step: int, epochs: int, stream: TextIO | None = sys.stderr
    ) -> None:
        self._stream = stream
        self._epochs = epochs
        self._total, self._first, self._step = total_steps, first_step, first_step
        self._started = time.monotonic()
        self._bar = None
        if stream is not None:
            self._bar = terminal_bar(
                stream, total=total_steps, initial=first_step, unit="step", leave=False
            )

    def say(self, text: str) -> None:
        """Prints one line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)

    def advance(self, loss: float) -> None:
        """One more step is done."""
        self._step += 1
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self._bar.update()

    def epoch(self, row: Row) -> None:
        """An epoch is done; says its figures and how long the rest will take."""
        done = max(self._step - self._first, 1)
        left = (time.monotonic() - self._started) / done * (self._total - self._step)
        self.say(f"{describe_row(row, self._epochs)}  ETA {format_seconds(left)}")

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()


def describe_row(row: Row, epochs: int) -> str:
    """One line about an epoch: clean / robust accuracies in per cent."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4f}"]
    for name, label in (("train", "train"), ("holdout", "hold-out")):
        clean, robust = row[f"{name}_clean_accuracy"], row[f"{name}_robust_accuracy"]
        if clean is not None:
            parts.append(f"{label} {100 * clean:.1f} / {100 * robust:.1f} %")
    parts.append(f"lr {row['learning_rate']:.3g}")
    parts.append(f"{row['images_per_second']:.0f} images/s")
    return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"
