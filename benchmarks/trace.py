"""A profiler trace of one run, added up by the kind of operation.

The trace names XLA's instructions; the compiled program says which JAX operation each came from.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax

CONVOLUTION, GRADIENT = "convolutions, forward", "convolutions, backward"
PRODUCT, COPY, REST = "matrix products", "copies and transposes", "everything else"

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (?:\([^=]*?\)|\S+) ([\w-]+)\(")
_SOURCE = re.compile(r'op_name="([^"]*)"')
# These hold other instructions, which the trace has too.
_CONTAINERS = ("while", "conditional", "call")


def by_kind(run: Callable[[], object], program: str) -> dict[str, float]:
    """Seconds of one run by kind of operation, added over the threads that worked.

    Args:
      run: runs the program once and returns when it is done.
      program: the HLO text of the compiled program that `run` spends its time in.

    Returns:
      Kind -> seconds, the longest first. Empty where the profiler saw no instruction.
    """
    kinds = instruction_kinds(program)
    seconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines:
                    for event in line.events:
                        name = dict(event.stats).get("hlo_op")
                        if name in kinds and kinds[name] is not None:
                            seconds[kinds[name]] += event.duration_ns / 1e9
    return dict(seconds.most_common())


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
