"""What people read: Markdown, HTML and figures of what a run, an evaluation or a sweep left.

Reads records and computes nothing anew: scores are made in `evaluation`, verdicts in `diagnosis`,
and the numbers behind figures of networks in `analysis`.
"""

from robustjax.reports.evaluation_tables import to_markdown, to_table, warnings, write_report
from robustjax.reports.figures.canvas import compare_runs, training_curves

__all__ = [
    "compare_runs",
    "to_markdown",
    "to_table",
    "training_curves",
    "warnings",
    "write_report",
]
