"""`launch/export_weights.py`: a run's weights for PyTorch, with a model card.

`command` is the command line; arrays and names are from `interop`, the texts from `reports`.
"""

from robustjax.cli.export_weights.command import main

__all__ = ["main"]
