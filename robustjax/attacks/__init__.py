"""Attacks: `(key, logits_fn, images, labels, threat, ...)` to an `AttackResult`."""

from robustjax.attacks import stopping
from robustjax.attacks.apgd import apgd, apgd_targeted
from robustjax.attacks.cw import cw_linf
from robustjax.attacks.fgsm import fgsm
from robustjax.attacks.pgd import pgd
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel

__all__ = [
    "AttackResult",
    "ThreatModel",
    "apgd",
    "apgd_targeted",
    "cw_linf",
    "fgsm",
    "pgd",
    "stopping",
]
