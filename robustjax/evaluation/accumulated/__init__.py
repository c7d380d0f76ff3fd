"""All that was ever measured of a run, of its records one figure each.

`run_summary` makes evaluation.json of them; `earlier_versions` makes records of an evaluation.json
that was written before there were any.
"""

from robustjax.evaluation.accumulated.earlier_versions import earlier_records
from robustjax.evaluation.accumulated.run_summary import (
    add_to_run,
    examples_of_run,
    records_of,
    summary_of,
    summary_of_run,
)

__all__ = [
    "add_to_run",
    "earlier_records",
    "examples_of_run",
    "records_of",
    "summary_of",
    "summary_of_run",
]
