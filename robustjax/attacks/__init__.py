"""Attacks, one a file: `(key, logits_fn, images, labels, threat, ...)` to an `AttackResult`.

They know callables and arrays, and neither networks nor data sets: scores over a data set are made
in `evaluation`. How steps are run is in `engine`, the ensemble in `autoattack`.
"""

from robustjax.attacks import stopping
from robustjax.attacks.apgd import apgd, apgd_targeted
from robustjax.attacks.autoattack.autoattack import AutoAttackReport, autoattack
from robustjax.attacks.cw import cw_linf
from robustjax.attacks.deepfool import deepfool
from robustjax.attacks.fab import fab_targeted
from robustjax.attacks.fgsm import fgsm
from robustjax.attacks.pgd import pgd
from robustjax.attacks.random_noise import random_noise
from robustjax.attacks.result import AttackResult
from robustjax.attacks.spsa import spsa
from robustjax.attacks.square import square
from robustjax.attacks.threat_model import ThreatModel
from robustjax.attacks.transfer import transfer

__all__ = [
    "AttackResult",
    "AutoAttackReport",
    "ThreatModel",
    "apgd",
    "apgd_targeted",
    "autoattack",
    "cw_linf",
    "deepfool",
    "fab_targeted",
    "fgsm",
    "pgd",
    "random_noise",
    "spsa",
    "square",
    "stopping",
    "transfer",
]
