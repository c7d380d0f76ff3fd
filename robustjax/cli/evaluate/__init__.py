"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run.

`command` is the command line, and the one function that evaluates a run for it and for others.
"""

from robustjax.cli.evaluate.command import ADVERSARIAL, STEP_SIZE_HELP, evaluate_run, main

__all__ = ["ADVERSARIAL", "STEP_SIZE_HELP", "evaluate_run", "main"]
