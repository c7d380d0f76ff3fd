"""How much of the CPU other processes used while something was timed (Linux; elsewhere unknown).

Sides that wait for all their threads at every layer suffer more from busy neighbours than sides
that share the work out as threads become free, so that ratios from a busy machine mislead.
"""

import os
import time
from collections.abc import Collection
from pathlib import Path

WORTH_A_WARNING = 0.05
"""Share of the cores' time from which on a result is marked."""

_STATISTICS = Path("/proc/stat")


class Neighbours:
    """A context; `share` is, after it, what others used of the time of this process's cores."""

    def __init__(self) -> None:
        self.share: float | None = None

    def __enter__(self) -> "Neighbours":
        self._before = _readings()
        return self

    def __exit__(self, *_: object) -> None:
        after = _readings()
        if self._before is None or after is None:
            return
        busy, own, wall = (new - old for new, old in zip(after, self._before, strict=True))
        cores = len(os.sched_getaffinity(0))
        # The kernel counts in ticks, which makes short times uncertain.
        self.share = min(max(0.0, busy - own) / max(wall * cores, 1e-9), 1.0)


def busy_seconds(statistics: str, cores: Collection[int], ticks_per_second: int) -> float:
    """Seconds that some cores have worked, or been taken away by the hypervisor.

    Args:
      statistics: the text of /proc/stat.
      cores: their numbers.
      ticks_per_second: the unit of the text.
    """
    names = {f"cpu{core}" for core in cores}
    ticks = 0
    for line in statistics.splitlines():
        name, *columns = line.split()
        if name in names:
            user, nice, system, _, _, interrupts, soft_interrupts, stolen, *_ = map(int, columns)
            ticks += user + nice + system + interrupts + soft_interrupts + stolen
    return ticks / ticks_per_second


def _readings() -> tuple[float, float, float] | None:
    """Seconds of work of all processes, seconds of this one, and the clock."""
    if not _STATISTICS.exists():
        return None
    cores, ticks_per_second = os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
    busy = busy_seconds(_STATISTICS.read_text(), cores, ticks_per_second)
    return busy, time.process_time(), time.monotonic()
