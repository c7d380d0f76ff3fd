"""Transfer: adversarial images of one network, shown to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from robustjax.arguments import checked_function
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.model import logits_model
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.pgd import pgd
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageLabels


def transfer(
    key: jax.Array,
    source_fn: Callable[[jax.Array], jax.Array],
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    *,
    attack: Callable[..., AttackResult] = pgd,
    **options: Any,
) -> AttackResult:
    """A black-box attack: what an attack finds on a source network is judged by the target.

    The target is only shown the finished images, so that its gradients, masked or not, play no
    part. An attack that leaves an example alone as soon as the source misclassifies it (`apgd` and
    its like, or `pgd` with success "any") stops just beyond the source's boundary, and transfers
    worse than one that goes on, such as `pgd` as it is here.

    Args:
      key: one random key, or `[B]` keys, for the attack.
      source_fn: the network that is attacked; maps images `[B, H, W, C]` to logits `[B, K]`.
      logits_fn: the target, which judges; of the same form and classes.
      images: clean images, floating, `[B, H, W, C]`.
      labels: int `[B]` in [0, K), or probabilities `[B, K]` if the attack takes them.
      threat: the norm ball and the box.
      attack: called as `attack(key, source_fn, images, labels, threat, **options)`; one of
        `robustjax.attacks`, or another that gives an `AttackResult`.
      **options: for the attack, such as `steps=20, step_size=2 / 255`.

    Returns:
      An `AttackResult`: the source's adversarial images, success at the target, whatever it was at
      the source, and the backward passes through the source.

    Raises:
      ValueError: as the attack.

    Source: Practical Black-Box Attacks against Machine Learning (Papernot et al., 2017), with a
      source that is given instead of trained on the target's answers; used so in Towards Deep
      Learning Models Resistant to Adversarial Attacks (Madry et al., 2018), section 5.
    """
    checked_function("attack", attack, "attacks, such as attacks.pgd")
    checks.checked_logits_fn(logits_fn)
    images = checks.checked_images(images)
    labels = checks.checked_labels(labels, len(images))
    threat = checks.checked_threat(threat, len(images), images.dtype)
    checks.check_inside_box(images, threat)
    if not len(images):
        return AttackResult.empty(images)
    found = attack(key, source_fn, images, labels, threat, **options)
    # Of this package's attacks they are inside already.
    shown = threat.project(found.images, images)
    logits = engine.apply(logits_model(logits_fn, labels), shown)
    return dataclasses.replace(found, images=shown, success=misclassified(logits, labels))
