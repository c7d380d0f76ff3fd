"""`launch/analyze.py`: what the papers look at in trained networks, as figures.

`command` is the command line, `kinds` has a function for each figure; numbers are from `analysis`.
"""

from robustjax.cli.analyze.command import main

__all__ = ["main"]
