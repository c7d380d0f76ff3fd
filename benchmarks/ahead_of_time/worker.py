"""`python -m benchmarks.ahead_of_time.worker JSON`: compiles one train step for one target.

Prints one line of JSON. `benchmarks.pods` starts it: some compilers end the process that they run
in, and one libtpu at a time may be loaded.
"""

import dataclasses
import resource
import time
from typing import Any

from jax.experimental import topologies

from benchmarks import memory
from benchmarks.ahead_of_time import apart, program, targets
from robustjax.config import TrainConfig


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Compiles the step of a task.

    Args:
      task: "target", its name; "config", fields of TrainConfig whose batch size is that of all its
        chips; "image_size"; "program", a path for the program's text, or "".

    Returns:
      Seconds and bytes per chip, and the counts of `program.Summary`.
    """
    target = targets.parse(task["target"])
    topology = topologies.get_topology_desc(**target.description())
    config = TrainConfig(**task["config"])
    started = time.monotonic()
    lowered, flops, _ = memory.lower_step(config, task["image_size"], topology.devices)
    lowered_at = time.monotonic()
    compiled = lowered.compile()
    finished = time.monotonic()
    text = compiled.as_text()
    if task["program"]:
        with open(task["program"], "w") as file:
            file.write(text)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        **memory.planned(compiled),
        "traced_flops": flops,
        "lowering_seconds": lowered_at - started,
        "compiling_seconds": finished - lowered_at,
        "peak_resident_bytes": resident,
        **dataclasses.asdict(program.summarise(text)),
    }


if __name__ == "__main__":
    apart.answer(measure)
