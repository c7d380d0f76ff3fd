"""AutoAttack: parameter-free attacks, each on the examples that withstood those before it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from robustjax.arguments import kind, refusal, require_choice
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.autoattack import warnings as inspection
from robustjax.attacks.autoattack.report import AutoAttackReport
from robustjax.attacks.autoattack.staged import Attacked, Progress
from robustjax.attacks.engine.model import one_draw
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.errors import UserError
from robustjax.shapes import CleanImages, ImageClasses

VERSIONS = ("standard", "rand")


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """`autoattack` as a value, which gives an `AttackResult` like any other attack.

    Attributes:
      version: "standard" or "rand".
    """

    version: str = "standard"

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images outside of jit; the gradients are not counted."""
        report = autoattack(key, logits_fn, images, labels, threat, version=self.version)
        none = jnp.zeros(len(report.robust), jnp.int32)
        return AttackResult(jnp.asarray(report.images), jnp.asarray(~report.robust), none)


def autoattack(
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    version: str = "standard",
    batch_size: int = 256,
    state_path: str | os.PathLike | None = None,
    progress: Progress | None = None,
    devices: Sequence[jax.Device] = (),
) -> AutoAttackReport:
    """Standard AutoAttack: APGD-CE, targeted APGD-DLR, targeted FAB and Square, in this order.

    Every attack begins at the clean images, and is run only on those that withstood all attacks
    before it. Images that the network misclassifies as they are count as broken from the outset.
    Every adversarial image is looked at again, apart from the attack: inside the ball, inside the
    box, misclassified. An example whose image is not goes on to the next target or attack. If
    nothing else breaks it, it counts as robust, and a warning says so.

    With version "rand" one draw of the network decides the clean accuracy, and after each attack a
    fresh one whether the finished image is misclassified, as in the authors' code: so with epsilon
    0 a network that is right in a share a of its draws is robust in a share a³.

    The settings are the authors': 100 steps of every gradient attack, 9 targets, 5000 queries, one
    start. Under "l1" APGD begins in balls of 3 and 2 epsilon, with five starts on the
    cross-entropy, and has 5 targets. With fewer than 10 classes there are fewer targets. With fewer
    than 4 the targeted DLR loss is not defined, and APGD-T ascends the difference of the two
    logits. A warning says so.

    On a CPU the standard attacks run in small batches, one for each core, in which an example whose
    verdict is known makes room for the next one. On an accelerator, and with version "rand", where
    examples share draws, a batch is attacked to its end.

    All batches have one shape, and the network's weights are arguments of what is compiled: every
    attack is compiled once, and not again for a second network of the same shapes.

    Args:
      key: one random key. What is drawn for an example depends on the key and its position alone.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
        With version "rand" it is called as `logits_fn(images, key)`.
      images: clean images, floating, `[N, H, W, C]`, inside the box.
      labels: int `[N]` in [0, K).
      threat: the norm ball, of finite epsilon (a scalar or `[N]`), and a box.
      version: "standard"; or "rand" for networks with randomness: APGD-CE and APGD-DLR, every
        gradient the mean of 20 draws.
      batch_size: how many examples are computed at a time at most; a last, smaller batch is filled
        up. A CPU computes up to 16 for each device, or for each core.
      state_path: a file that keeps what is found, written every half minute. If it holds an
        evaluation with the same arguments that was interrupted, that one goes on, and ends with the
        verdicts that it would have ended with. It belongs to the network's program and weights,
        the images and the settings; of anything else it is refused.
      progress: called whenever verdicts are known.
      devices: share every batch, whose size they must divide; none: the default one.

    Returns:
      An `AutoAttackReport`.

    Raises:
      ValueError: an argument is not accepted; `state_path` holds another evaluation; or the call is
        inside jit, which cannot choose survivors. The message says which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> report = autoattack(jax.random.key(0), network, images, labels, threat)
      >>> print(report.robust_accuracy["apgd-ce"])
      0.0

    Source: Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
      Parameter-free Attacks (Croce & Hein, 2020), section 6; order and bookkeeping as in the
      authors' code. The random numbers are others, so a figure differs from theirs as two of their
      seeds do. Under "l1" Mind the Box (Croce & Hein, 2021), with the settings of the authors'
      code.
    """
    require_choice("version", version, VERSIONS)
    random = version == "rand"
    attacked = Attacked.of(
        key, logits_fn, images, labels, threat, batch_size=batch_size, devices=devices,
        random=random,
    )  # fmt: skip
    images, num_classes = attacked.batches.images, attacked.num_classes
    if random and num_classes < 3:
        raise UserError(
            f"version='rand': the network has {num_classes} classes; accepted are 3 or more, for "
            "which its DLR loss is defined"
        )
    if not random and images.ndim != 4:
        raise refusal("images", kind(images), "[N, H, W, C]: Square moves windows of pixels")
    # Looked for as the network was given, so that one with a state of its own shows it.
    fixed = one_draw(logits_fn, attacked.key) if random else logits_fn
    labels, logits = attacked.batches.labels, attacked.logits
    warnings = inspection.inspect(fixed, images, labels, logits, random=random)
    if random:
        stages = ensemble.rand_stages()
        warnings += inspection.is_deterministic(logits_fn, images, attacked.key)
    else:
        stages = ensemble.standard_stages(num_classes, attacked.threat.norm)
        warnings += inspection.few_classes(num_classes, ensemble.TARGETS)
    found = attacked.run(stages, version, state_path, progress)
    alone = inspection.square_alone(found.robust_accuracy)
    return dataclasses.replace(found, warnings=(*warnings, *alone, *found.warnings))
