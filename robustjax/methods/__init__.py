"""Training methods: each is an inner maximisation and an outer loss, one paper per file."""

from robustjax.methods.method import (
    Batch,
    Inner,
    Method,
    Network,
    Objective,
    Outer,
    Perturbation,
)
from robustjax.methods.registry import cite, create, hyperparameters, names, summary

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
    "hyperparameters",
    "names",
    "summary",
]
