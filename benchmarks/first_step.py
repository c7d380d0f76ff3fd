"""`python -m benchmarks.first_step FLAGS`: launch/train.py up to the end of its first step.

Prints one line of JSON then, and ends at once, without a checkpoint.
"""

import json
import os
import time
from typing import Any

import jax

from robustjax.cli import train
from robustjax.runs.log import Progress

COMPILE_EVENTS = (
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
"""JAX's names for lowering a program, and for compiling it or reading it from the cache."""

_CACHE_HIT = "/jax/compilation_cache/cache_hits"


def main() -> None:
    """Trains as the command line says; never returns."""
    seen = {"compile_seconds": 0.0, "programs": 0, "from_cache": 0}

    def heard_duration(event: str, seconds: float, **_: Any) -> None:
        if event in COMPILE_EVENTS:
            seen["compile_seconds"] += seconds
            seen["programs"] += event == COMPILE_EVENTS[1]

    def heard_event(event: str, **_: Any) -> None:
        seen["from_cache"] += event == _CACHE_HIT

    def report(progress: Progress, loss: float) -> None:
        # The loop has read the loss: the step is done on the device too.
        print(json.dumps({"done_at": time.time(), "loss": loss, **seen}), flush=True)
        os._exit(0)

    jax.monitoring.register_event_duration_secs_listener(heard_duration)
    jax.monitoring.register_event_listener(heard_event)
    Progress.advance = report
    train.main()


if __name__ == "__main__":
    main()
