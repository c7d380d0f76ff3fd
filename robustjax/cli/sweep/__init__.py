"""`launch/sweep.py`: several trainings and evaluations, and a table of what they found.

`command` is the command line, with its plan and its processes beside it; tables are in `reports`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustjax.cli.sweep.command import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    # What draws needs an extra, which others who use the plan and the processes do without.
    if name == "main":
        return importlib.import_module("robustjax.cli.sweep.command").main
    raise AttributeError(f"module 'robustjax.cli.sweep' has no attribute {name!r}")
