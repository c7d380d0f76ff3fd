"""What people read: Markdown, HTML and figures of what a run, an evaluation or a sweep left.

Reads records and computes nothing anew: scores are made in `evaluation`, verdicts in `diagnosis`,
and the numbers behind figures of networks in `analysis`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from robustjax import installed
from robustjax.reports.evaluation_tables import to_markdown, to_table, warnings, write_report

if TYPE_CHECKING:
    from robustjax.reports.figures.canvas import compare_runs, training_curves

__all__ = [
    "compare_runs",
    "to_markdown",
    "to_table",
    "training_curves",
    "warnings",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # What draws needs an extra, and half a second.
    if name in ("compare_runs", "training_curves"):
        with installed.naming_the_extra():
            return getattr(importlib.import_module("robustjax.reports.figures.canvas"), name)
    raise AttributeError(f"module 'robustjax.reports' has no attribute {name!r}")
