"""Attacks over a data set: the suite, the papers' protocols, transfer, saved images, the summary.

Scores are computed here and summed up as evaluation.json has them. What is written for people, and
every figure, is made of that in `reports`; whether gradients are masked is judged in `diagnosis`.
"""

import importlib
import warnings
from typing import Any

from robustjax.evaluation.one_attack import AttackScore, run_attack
from robustjax.evaluation.spec import AttackSpec, accepted_attacks, parse_attack
from robustjax.evaluation.suite import evaluate
from robustjax.evaluation.summary import summarize, versions
from robustjax.evaluation.verdicts import wilson_interval

__all__ = [
    "AttackScore",
    "AttackSpec",
    "accepted_attacks",
    "evaluate",
    "parse_attack",
    "run_attack",
    "summarize",
    "versions",
    "wilson_interval",
]

_MOVED = ("compare_runs", "to_markdown", "to_table", "training_curves", "warnings", "write_report")


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module 'robustjax.evaluation' has no attribute {name!r}")
    warnings.warn(
        f"evaluation.{name} is deprecated; it is reports.{name} now",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(importlib.import_module("robustjax.reports"), name)
