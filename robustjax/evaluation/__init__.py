"""Evaluation: suites of attacks over a data set, figures and reports."""

from robustjax.evaluation.figures import compare_runs, training_curves
from robustjax.evaluation.report import (
    summarize,
    to_markdown,
    to_table,
    versions,
    warnings,
    write_report,
)
from robustjax.evaluation.suite import (
    ACCEPTED,
    AttackScore,
    AttackSpec,
    evaluate,
    parse_attack,
    run_attack,
    wilson_interval,
)

__all__ = [
    "ACCEPTED",
    "AttackScore",
    "AttackSpec",
    "compare_runs",
    "evaluate",
    "parse_attack",
    "run_attack",
    "summarize",
    "to_markdown",
    "to_table",
    "training_curves",
    "versions",
    "warnings",
    "wilson_interval",
    "write_report",
]
