"""Attacks, one a file: `(key, logits_fn, images, labels, threat, ...)` to an `AttackResult`.

They know callables and arrays, and neither networks nor data sets: scores over a data set are made
in `evaluation`. How steps are run is in `engine`, the ensemble in `autoattack`.
"""

from robustjax.attacks import stopping
from robustjax.attacks.apgd import APGD, APGDTargeted, apgd, apgd_targeted
from robustjax.attacks.attack import Attack
from robustjax.attacks.autoattack.autoattack import AutoAttack, AutoAttackReport, autoattack
from robustjax.attacks.cw import CW, cw_linf
from robustjax.attacks.deepfool import DeepFool, deepfool
from robustjax.attacks.fab import FABTargeted, fab_targeted
from robustjax.attacks.fgsm import FGSM, fgsm
from robustjax.attacks.naming import create
from robustjax.attacks.pgd import PGD, pgd
from robustjax.attacks.random_noise import RandomNoise, random_noise
from robustjax.attacks.registry import names, register
from robustjax.attacks.result import AttackResult
from robustjax.attacks.spsa import SPSA, spsa
from robustjax.attacks.square import Square, square
from robustjax.attacks.threat_model import ThreatModel
from robustjax.attacks.transfer import transfer

__all__ = [
    "APGD",
    "CW",
    "FGSM",
    "PGD",
    "SPSA",
    "APGDTargeted",
    "Attack",
    "AttackResult",
    "AutoAttack",
    "AutoAttackReport",
    "DeepFool",
    "FABTargeted",
    "RandomNoise",
    "Square",
    "ThreatModel",
    "apgd",
    "apgd_targeted",
    "autoattack",
    "create",
    "cw_linf",
    "deepfool",
    "fab_targeted",
    "fgsm",
    "names",
    "pgd",
    "random_noise",
    "register",
    "spsa",
    "square",
    "stopping",
    "transfer",
]
