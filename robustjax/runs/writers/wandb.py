"""Weights & Biases' curves of a run: kept in its folder, and uploaded by who wants them there.

Nothing leaves the machine unless $WANDB_MODE=online says so: `wandb sync DIR/wandb/offline-run-*`
uploads them later. Project, entity and the rest are taken from wandb's own variables, as
$WANDB_PROJECT.
"""

import os
import secrets
import shutil
from typing import Any

from robustjax.errors import UserError
from robustjax.files import Path, write_whole
from robustjax.runs.log import Row
from robustjax.runs.writers.registry import LoggedRun

_FOLDER = "wandb"

_ID = "robustjax_run_id.txt"
"""Keeps the name that Weights & Biases knows the run by."""


class _History:
    """The rows as the history of one run there, by epoch."""

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        identity = _identity(run.folder / _FOLDER)
        if mode == "offline":
            _remove_earlier(run.folder / _FOLDER, identity)
        try:
            self._run: Any = wandb.init(
                dir=str(run.folder),
                id=identity,
                name=run.folder.name,
                config=dict(run.options),
                mode=mode,
                resume="allow" if mode == "online" else None,
                project=os.environ.get("WANDB_PROJECT", "robustjax"),
            )
        except wandb.Error as error:
            raise UserError(
                f"log=wandb cannot begin: {' '.join(str(error).split())}; without "
                "WANDB_MODE=online it keeps its files in the run's folder"
            ) from error
        # Points that are there already are there for good: a row is the same whenever it comes.
        self._next = self._run.step
        for row in run.rows:
            self(row)

    def __call__(self, row: Row) -> None:
        if row["epoch"] >= self._next:
            self._run.log(
                {name: value for name, value in row.items() if value is not None},
                step=row["epoch"],
                commit=True,
            )

    def close(self) -> None:
        self._run.finish()


def create(run: LoggedRun) -> _History:
    """The writer of a run, which goes on with what it has there.

    Raises:
      ValueError: Weights & Biases does not let it begin.
    """
    return _History(run)


def _identity(folder: Path) -> str:
    """The run's name there, drawn once."""
    path = folder / _ID
    if not path.exists():
        write_whole(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def _remove_earlier(folder: Path, identity: str) -> None:
    """Removes what was kept of the run before it was resumed: all of it is written again."""
    for earlier in folder.glob(f"offline-run-*-{identity}"):
        shutil.rmtree(earlier)
