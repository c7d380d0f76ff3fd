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
from robustjax.losses.logit_pairing import (
    adversarial_logit_pairing,
    logit_pairing,
    logit_squeezing,
)
from robustjax.losses.lrm import lrm
from robustjax.losses.margin import cw_margin, dlr, targeted_dlr
from robustjax.losses.mart import mart
from robustjax.losses.mma import soft_logit_margin
from robustjax.losses.nap import nap
from robustjax.losses.trades import trades

__all__ = [
    "adversarial_logit_pairing",
    "boosted_cross_entropy",
    "cross_entropy",
    "cw_margin",
    "dlr",
    "kl_divergence",
    "logit_pairing",
    "logit_squeezing",
    "lrm",
    "mart",
    "nap",
    "smooth_labels",
    "soft_logit_margin",
    "targeted_dlr",
    "trades",
]
