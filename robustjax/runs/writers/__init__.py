"""Where rows of epochs go besides metrics.jsonl: TensorBoard, Weights & Biases, your own.

A writer is made when training begins and is then called with the row of each epoch. What is in a
row, and the file that always has it, is in `runs.log`; nothing is measured here.
"""

from robustjax.runs.writers.registry import LoggedRun, Writer, create_writers, names

__all__ = ["LoggedRun", "Writer", "create_writers", "names"]
