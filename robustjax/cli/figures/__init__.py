"""`launch/figures.py`: the figures of the logs of runs and sweeps, and those of the papers.

`command` is the command line, `papers` says which figure is which; `reports.figures` draws them.
"""

from robustjax.cli.figures.command import main

__all__ = ["main"]
