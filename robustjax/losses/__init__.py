"""Losses as pure functions of logits and labels, one value per example, never reduced.

Logits are [B, K]. Labels are integers [B], or probabilities [B, K] where a loss says that it takes
soft labels. Any leading shape may stand in the place of B, none included, so every loss also maps
under `jax.vmap`. Results have the precision of the logits, and at least float32.
"""

from robustjax.losses.classification import (
    boosted_cross_entropy,
    cross_entropy,
    kl_divergence,
    smooth_labels,
)
from robustjax.losses.margin import cw_margin, dlr, targeted_dlr
from robustjax.losses.trades import trades

__all__ = [
    "boosted_cross_entropy",
    "cross_entropy",
    "cw_margin",
    "dlr",
    "kl_divergence",
    "smooth_labels",
    "targeted_dlr",
    "trades",
]
