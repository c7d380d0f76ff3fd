"""Carries a plan out within its minutes; whatever ends it, what was found is on the disk."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.plan.part import Content, Part, Step
from benchmarks.plan.records import CUT_OFF, DONE, FAILED, FINISHED, RUNNING, Records

ROOT = Path(__file__).resolve().parents[2]

RESERVE = 10.0
"""Seconds at the end of the minutes that no part gets: the table is written then."""

OVERRUN = 2.0
"""A part is ended once it has taken so many times what it was expected to."""

_PATIENCE = 10.0
"""Seconds that a command gets to end by itself when it is told to."""

_EVERY = 0.5
"""Seconds between two looks at what a command has written."""

_TAIL = 2000
"""Characters of a failed command's output that are kept."""


class Ended(NamedTuple):
    """How a part ended.

    Attributes:
      state: one of `records`.
      seconds: that it took.
      said: the end of its output.
    """

    state: str
    seconds: float
    said: str


Run = Callable[[Part, float, Callable[[Content | None], None]], Ended]


def carry_out(
    steps: Sequence[Step],
    records: Records,
    *,
    minutes: float,
    run: Run,
    overrun: float = OVERRUN,
    clock: Callable[[], float] = time.monotonic,
    say: Callable[[str], None] = print,
) -> dict[str, str]:
    """Carries out what is missing, the most useful first, as far as the minutes reach.

    Args:
      steps: in the order of their worth.
      records: what there is already; every result is added as soon as it is there.
      minutes: from now on.
      run: runs a part, for so many seconds at most, and hands on what it has written so far.
      overrun: see `OVERRUN`.
      clock: seconds.
      say: is told what is done, and what is not and why.

    Returns:
      "step part" -> why it was not carried out, or not to its end.
    """
    until = clock() + 60 * minutes - RESERVE
    left_out: dict[str, str] = {}
    for step in steps:
        for part in step.parts:
            name = f"{step.name} {part.name}"
            if records.entries(step).get(part.name, {}).get("state") in FINISHED:
                say(f"({step.letter}) {name}: is there already")
                continue
            left = until - clock()
            if lacking := part.missing():
                left_out[name] = lacking
            elif 60 * part.minutes > left:
                left_out[name] = (
                    f"takes about {part.minutes:g} minutes, and {max(left, 0) / 60:.1f} are left"
                )
            if name in left_out:
                say(f"({step.letter}) {name}: left out: {left_out[name]}")
                continue
            say(f"({step.letter}) {name}: about {part.minutes:g} of {left / 60:.1f} minutes")
            ended = _record(step, part, records, run, min(60 * part.minutes * overrun, left))
            say(f"    {ended.state} after {ended.seconds:.0f} s")
            if ended.state == FAILED:
                say("    " + "\n    ".join(ended.said.strip().splitlines()[-5:]))
            if ended.state != DONE:
                left_out[name] = f"{ended.state} after {ended.seconds:.0f} s"
    return left_out


def _record(step: Step, part: Part, records: Records, run: Run, limit: float) -> Ended:
    """Runs a part and keeps what it finds, from the first result on."""

    def put(content: Content | None, ended: Ended) -> None:
        records.put(
            step,
            part.name,
            {
                "state": ended.state,
                "seconds": round(ended.seconds, 1),
                "command": " ".join(("python", *part.command[1:])),
                "content": content,
                "said": ended.said if ended.state == FAILED else "",
            },
        )

    found: list[Content | None] = [None]

    def keep(content: Content | None) -> None:
        if content is not None and content != found[0]:
            found[0] = content
            put(content, Ended(RUNNING, 0.0, ""))

    ended = run(part, limit, keep)
    put(found[0], ended)
    return ended


def run_command(part: Part, limit: float, keep: Callable[[Content | None], None]) -> Ended:
    """Runs the command of a part, and ends it and all that it started when its time is over.

    Args:
      part: what to run.
      limit: seconds.
      keep: is given what the command has written, now and then and at its end.
    """
    part.output.parent.mkdir(parents=True, exist_ok=True)
    if not part.continues:
        part.output.unlink(missing_ok=True)
    log = part.output.with_suffix(".log")
    started = time.monotonic()
    with log.open("w+b") as stream:
        # A group of its own, but no session: it is not to outlive the machine's loan.
        process = subprocess.Popen(
            part.command,
            cwd=ROOT,
            env={**os.environ, **part.environment},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        in_time = True
        try:
            while process.poll() is None:
                in_time = time.monotonic() - started < limit
                if not in_time:
                    break
                keep(part.read(part.output))
                time.sleep(_EVERY)
        finally:
            _end(process)
        keep(part.read(part.output))
        seconds = time.monotonic() - started
        stream.seek(0)
        said = stream.read().decode(errors="replace")[-_TAIL:]
    if not in_time:
        return Ended(CUT_OFF, seconds, said)
    return Ended(FAILED if process.returncode else DONE, seconds, said)


def _end(process: subprocess.Popen) -> None:
    """Ends a command that still runs, and what it has started."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
