"""Runs as processes: so many at once, and all of them stopped with the one that starts them."""

import enum
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from robustjax import own_code
from robustjax.cli import app
from robustjax.cli.start import environment_of_child
from robustjax.cli.sweep.plan import PlannedRun
from robustjax.config import TrainConfig
from robustjax.files import Path, write_whole
from robustjax.runs.log import format_seconds


class Turn(enum.Enum):
    """Whether a run may start now: it starts, it is asked again later, or it is not to start."""

    START = "start"
    WAIT = "wait"
    SKIP = "skip"


Evaluations = Callable[[PlannedRun], Sequence[Mapping[str, Any]]]
"""The evaluations of a run: options of `cli.evaluate.evaluate_run`, text where it is a number."""


def run_all(
    waiting: Sequence[PlannedRun],
    evaluations: Evaluations,
    parallel: int,
    failures: dict[Path, str],
    report: Callable[[], Any],
    turn: Callable[[PlannedRun], Turn] = lambda _: Turn.START,
) -> None:
    """Trains and evaluates runs, each in a process of its own; those that fail stop no other.

    Args:
      waiting: the runs, in the order in which they start.
      evaluations: what each is to be evaluated with.
      parallel: how many at once.
      failures: folder of a run -> why it failed; added to.
      report: called when a run has ended.
      turn: asked before a run starts, again and again while it says `Turn.WAIT`.

    Raises:
      KeyboardInterrupt: Ctrl-C or SIGTERM came; the runs have saved what they had.
    """
    total, finished, started = len(waiting), 0, time.monotonic()
    queue = list(enumerate(waiting, 1))
    running: dict[subprocess.Popen, PlannedRun] = {}
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        while finished < total:
            for entry in list(queue):
                number, planned = entry
                now = turn(planned) if len(running) < parallel else Turn.WAIT
                if now is Turn.WAIT:
                    continue
                queue.remove(entry)
                if now is Turn.SKIP:
                    finished += 1
                    report()
                    continue
                _say(f"[{number}/{total}] {planned.run.workdir.name}: starts")
                try:
                    running[_start(planned, evaluations(planned), parallel)] = planned
                except OSError as error:
                    finished += 1
                    failures[planned.run.workdir] = app.describe(error)
                    _say(f"[{number}/{total}] {planned.run.workdir.name}: {app.describe(error)}")
                    report()
            # With nothing of its own to wait for, `turn` asks the files of other processes.
            time.sleep(0.2 if running else 2.0)
            for process in [process for process in running if process.poll() is not None]:
                workdir = running.pop(process).run.workdir
                finished += 1
                line = _last_line(workdir)
                if process.returncode:
                    failures[workdir] = line = _explain(process.returncode, line)
                left = (time.monotonic() - started) / finished * (total - finished)
                _say(
                    f"[{finished}/{total}] {workdir.name}: {line}   "
                    f"{total - finished} left, ETA {format_seconds(left)}"
                )
                report()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, previous)


def _interrupt(number: int, _: object) -> None:
    raise KeyboardInterrupt


def _start(
    planned: PlannedRun, evaluations: Sequence[Mapping[str, Any]], parallel: int
) -> subprocess.Popen:
    """Starts training and evaluation of one run."""
    run, config = planned
    run.workdir.parent.mkdir(parents=True, exist_ok=True)
    flag_file = run.workdir.parent / f"{run.workdir.name}.flags"
    write_whole(flag_file, config.to_flags())
    # What flags.txt does not record.
    machine = [f"--devices={config.devices}", f"--cpu_devices={config.cpu_devices}"]
    machine += [f"--log={','.join(config.log)}", *_own_parts(config)]
    environment = environment_of_child()
    if parallel > 1:
        cores = max((os.cpu_count() or 1) // parallel, 1)
        environment.setdefault("OMP_NUM_THREADS", str(cores))
    # -P: whatever lies in the working directory is not to be imported.
    command = [sys.executable, "-P", "-m", "robustjax.cli.sweep.child", json.dumps(evaluations)]
    # A run that goes on keeps the log of what came before.
    with open(os.fspath(_log_of(run.workdir)), "a") as log:
        return subprocess.Popen(
            [*command, f"--flagfile={flag_file}", *machine],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _own_parts(config: TrainConfig) -> list[str]:
    """Code that a person has named to the sweep, which a file alone does not make a run's."""
    parts = [("model", config.model), ("method", config.method)]
    parts += [("set", text) for text in config.set]
    return [
        f"--{name}={text}"
        for name, text in parts
        if own_code.is_own(text.rpartition("=")[2]) and own_code.is_trusted(text.rpartition("=")[2])
    ]


def _log_of(workdir: Path) -> Path:
    return workdir.parent / f"{workdir.name}.log"


def _last_line(workdir: Path) -> str:
    text = _log_of(workdir).read_bytes().decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def _explain(status: int, line: str) -> str:
    """Why a run failed: its last line, and the signal if one ended it."""
    if status > 0:
        return line
    return f"ended by {signal.Signals(-status).name} after: {line}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
