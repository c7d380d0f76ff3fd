"""A profiler trace of one run, added up by the kind of operation.

The trace names XLA's instructions; the compiled program says which JAX operation each came from.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import jax

CONVOLUTION, GRADIENT = "convolutions, forward", "convolutions, backward"
PRODUCT, COPY, REST = "matrix products", "copies and transposes", "everything else"

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (?:\([^=]*?\)|\S+) ([\w-]+)\(")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_GPU = "/device:GPU"
# These hold other instructions, which the trace has too.
_CONTAINERS = ("while", "conditional", "call")


class Event(NamedTuple):
    """Something that the profiler saw.

    Attributes:
      where: the name of the device or the host.
      name: of the event; on a GPU that of the kernel.
      instruction: of XLA, that it belongs to; "" if unknown.
      seconds: that it took.
    """

    where: str
    name: str
    instruction: str
    seconds: float


def events(run: Callable[[], object]) -> list[Event]:
    """What the profiler sees of one run.

    Args:
      run: runs a program once and returns when it is done.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        return [
            Event(
                plane.name,
                event.name,
                str(dict(event.stats).get("hlo_op", "")),
                event.duration_ns / 1e9,
            )
            for path in Path(folder).rglob("*.xplane.pb")
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes
            for line in plane.lines
            for event in line.events
        ]


def by_kind(seen: Iterable[Event], program: str) -> dict[str, float]:
    """Seconds by kind of operation, added over the threads that worked.

    Args:
      seen: in one run.
      program: the HLO text of the compiled program that the run spent its time in.

    Returns:
      Kind -> seconds, the longest first. Empty where the profiler saw no instruction.
    """
    kinds = instruction_kinds(program)
    seconds: Counter[str] = Counter()
    for event in seen:
        kind = kinds.get(event.instruction)
        if kind is not None:
            seconds[kind] += event.seconds
    return dict(seconds.most_common())


def by_kernel(seen: Iterable[Event], most: int = 20) -> dict[str, float]:
    """Kernel of a GPU -> seconds, the longest first; empty on a CPU.

    Args:
      seen: in one run.
      most: how many kernels.
    """
    seconds: Counter[str] = Counter()
    for event in seen:
        if event.where.startswith(_GPU):
            seconds[event.name] += event.seconds
    return dict(seconds.most_common(most))


def instruction_kinds(program: str) -> dict[str, str | None]:
    """Instruction -> kind of operation; None if it only holds other instructions.

    Args:
      program: HLO text.
    """
    kinds: dict[str, str | None] = {}
    for line in program.splitlines():
        found = _INSTRUCTION.match(line)
        if found:
            name, operation = found.groups()
            source = _SOURCE.search(line)
            kinds[name] = _kind(operation, source.group(1) if source else "")
    return kinds


def _kind(operation: str, source: str) -> str | None:
    """The kind of an instruction by its operation in XLA and the one in JAX that it came from."""
    if operation in _CONTAINERS:
        return None
    if operation in ("copy", "transpose"):
        return COPY
    if "conv_general_dilated" in source:
        return GRADIENT if "transpose(" in source else CONVOLUTION
    if "dot_general" in source:
        return PRODUCT
    return REST
