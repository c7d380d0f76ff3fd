"""`launch/import_weights.py`: makes the folder of a run from weights that were trained elsewhere.

`command` is the command line, which `launch/evaluate.py --weights` shares; the weights are read by
`interop`, the folder is written by `runs`.
"""

from robustjax.cli.import_weights.command import main

__all__ = ["main"]
