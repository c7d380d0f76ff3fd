"""What a run tells: one row an epoch in metrics.jsonl, a progress bar or a line on the terminal."""

import json
import sys
import time
from typing import Any, TextIO

from robustjax.files import Path, write_whole
from robustjax.progress import terminal_bar

Row = dict[str, Any]


class MetricsLog:
    """The rows of metrics.jsonl, one JSON object an epoch.

    Args:
      path: of the file; made with the first row.
      writes: whether this process writes it (one process of a run does).
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self._path = path
        self._writes = writes

    def keep_epochs(self, epochs: int) -> None:
        """Drops what a killed run wrote beyond the checkpoint that training goes on from.

        Args:
          epochs: how many complete epochs the checkpoint has.
        """
        if not self._writes or not self._path.exists():
            return
        rows = [row for row in read_rows(self._path) if row["epoch"] <= epochs]
        if rows:
            self._write(rows)
        else:
            self._path.unlink()

    def rows(self) -> list[Row]:
        """The rows so far."""
        return read_rows(self._path) if self._path.exists() else []

    def append(self, row: Row) -> None:
        """Adds a row; the file has it when this returns."""
        if self._writes:
            self._write([*self.rows(), row])

    def _write(self, rows: list[Row]) -> None:
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl; lines that are damaged are left out."""
    rows = []
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "epoch" in row:
            rows.append(row)
    return rows


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
