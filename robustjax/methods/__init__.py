"""Training methods: each is an inner maximisation and an outer loss, one paper per file.

The parts are in `attacks` and `losses`; the step that every method shares is in `training`.
"""

from robustjax.methods.method import (
    Batch,
    Inner,
    Method,
    Network,
    Objective,
    Outer,
    Perturbation,
)
from robustjax.methods.registry import (
    cite,
    create,
    explain,
    give,
    hyperparameters,
    names,
    register,
    summary,
)

__all__ = [
    "Batch",
    "Inner",
    "Method",
    "Network",
    "Objective",
    "Outer",
    "Perturbation",
    "cite",
    "create",
    "explain",
    "give",
    "hyperparameters",
    "names",
    "register",
    "summary",
]
