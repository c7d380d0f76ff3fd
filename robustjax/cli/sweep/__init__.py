"""`launch/sweep.py`: several trainings and evaluations, and a table of what they found.

`command` is the command line, with its plan and its processes beside it; tables are in `reports`.
"""

from robustjax.cli.sweep.command import main

__all__ = ["main"]
