"""`launch/reproduce.py`: a paper's table or figure by its name, our numbers beside the paper's.

`command` is the command line, `running` trains and attacks what is missing, `results` writes tables
and figures, `listing` shows what there is. What papers say stands in `robustjax.papers`.
"""

from robustjax.cli.reproduce.command import main

__all__ = ["main"]
