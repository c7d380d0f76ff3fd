"""TensorBoard's curves of a run, in the folder `tensorboard` of its own, by tensorboardX.

`tensorboard --logdir=runs` shows them, one point an epoch. tensorboardX needs neither TensorFlow
nor PyTorch.
"""

import time
from typing import Any

from robustjax.runs.log import Row
from robustjax.runs.writers.registry import LoggedRun

_FOLDER = "tensorboard"

_FILES = "events.out.tfevents.*"

_NO_CURVE = ("epoch", "step")
"""Of a row: what its point stands above."""


class _Curves:
    """One curve for each number of the rows, over the epochs."""

    def __init__(self, run: LoggedRun) -> None:
        from tensorboardX import SummaryWriter

        folder = run.folder / _FOLDER
        # Written anew from the rows that the run goes on from, as metrics.jsonl is: no point stands
        # twice, and none is missing where the option was given late.
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(_FILES):
            earlier.unlink()
        self._writer: Any = SummaryWriter(str(folder))
        text = "\n".join(f"    {name} = {value}" for name, value in run.options.items())
        self._writer.add_text("options", text)
        passed = run.rows[-1]["elapsed_seconds"] if run.rows else 0.0
        self._started = time.time() - passed
        for row in run.rows:
            self(row)

    def __call__(self, row: Row) -> None:
        for name, value in row.items():
            if name not in _NO_CURVE and value is not None:
                self._writer.add_scalar(
                    name, value, row["epoch"], walltime=self._started + row["elapsed_seconds"]
                )
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def create(run: LoggedRun) -> _Curves:
    """The writer of a run; what an earlier one left in its folder is replaced."""
    return _Curves(run)
