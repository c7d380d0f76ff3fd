"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run.

`command` is the command line; `evaluate_run` evaluates a run, for it and for others; `corruptions`
measures the accuracy on images that nobody attacks.
"""

from robustjax.cli.evaluate.command import STEP_SIZE_HELP, main
from robustjax.cli.evaluate.evaluate_run import ADVERSARIAL, evaluate_run

__all__ = ["ADVERSARIAL", "STEP_SIZE_HELP", "evaluate_run", "main"]
