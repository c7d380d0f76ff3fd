"""A compiler in a process of its own: some end the process that they run in."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks.ahead_of_time.steps import Row

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    # The process itself computes nothing; of the TPU only the compiler is there.
    "JAX_PLATFORMS": "cpu",
    # Else libtpu asks a metadata server which machine this is.
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""Of the process, from its start: JAX reads it when it is imported."""


def leave_devices_alone() -> None:
    """Has this process compute on the CPU: with a compiler JAX would look for its device."""
    jax.config.update("jax_platforms", "cpu")


def call(module: str, task: dict[str, Any], longest: float) -> Row:
    """What a module answers to a task, in a process of its own; see `answer`.

    Args:
      module: its full name.
      task: what goes through JSON.
      longest: seconds that it may take.

    Returns:
      Its answer, or what `failure` says.
    """
    with tempfile.TemporaryFile("w+") as errors:
        try:
            ended = subprocess.run(
                [sys.executable, "-m", module, json.dumps(task)],
                cwd=ROOT,
                env={**os.environ, **ENVIRONMENT},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=longest,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not compiled after {longest:g} s"}
        errors.seek(0)
        said = errors.read()
    if ended.returncode == 0:
        return json.loads(ended.stdout.splitlines()[-1])
    return failure(ended.returncode, said)


def answer(measure: Callable[[dict[str, Any]], Row]) -> None:
    """What a module that is called does: prints the answer to the task of its command line."""
    print(json.dumps(measure(json.loads(sys.argv[1]))))


def failure(code: int, said: str) -> Row:
    """Why nothing was compiled.

    Args:
      code: with which the process ended; minus the signal's number if by a signal.
      said: what it wrote to stderr.

    Returns:
      "does_not_fit", where the compiler found too little memory, which is a result; else "failed",
      in one line.
    """
    if code < 0:
        return {"failed": f"the compiler ended with {signal.Signals(-code).name}"}
    if memory := re.search(r"Used (\S+) of (\S+) hbm", said):
        return {"does_not_fit": f"{memory[1]} of {memory[2]}"}
    if "RESOURCE_EXHAUSTED" in said:
        return {"does_not_fit": "out of memory"}
    lines = [line for line in said.splitlines() if line.strip()]
    return {"failed": lines[-1][:300] if lines else f"the process ended with {code}"}


def reason(row: Row) -> str:
    """What `failure` found, in words."""
    return row.get("failed") or f"does not fit: {row['does_not_fit']}"
