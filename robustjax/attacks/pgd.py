"""Projected gradient ascent: one loop with a start, a pure step, a stop rule and restarts.

Nearly every inner maximisation of the adversarial-training literature is a setting of `pgd`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.arguments import checked_count, checked_function, require_choice
from robustjax.arguments.arrays import checked_scale
from robustjax.attacks import _checks as checks
from robustjax.attacks._gradient_ascent import GradientAscent, Inputs
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key
from robustjax.attacks.engine.model import Lowered, gradient_model
from robustjax.attacks.result import AttackResult
from robustjax.attacks.stopping import StopRule, checked_rule
from robustjax.attacks.targets import named_targets
from robustjax.attacks.threat_model import SPARSITY, ThreatModel
from robustjax.errors import UserError
from robustjax.shapes import CleanImages, ImageClasses, ImageLabels
from robustjax.step_size import default_step_size

STARTS = checks.STARTS

Loss = Callable[[jax.Array, Any], jax.Array]

LOSSES = {
    loss.__name__: loss
    for loss in (
        losses.cross_entropy,
        losses.boosted_cross_entropy,
        losses.cw_margin,
        losses.dlr,
    )
}
"""What can be ascended by its name."""


@dataclasses.dataclass(frozen=True)
class PGD:
    """`pgd` as a value; see there for the settings. Equal ones are one attack.

    Attributes:
      steps: number of steps, 0 or more.
      step_size: in units of the images; None: max(ε / 10, 2 ε / steps).
      loss: ascended; a function, or the name of one of `LOSSES`.
      start: "uniform", "gaussian", "sign" or "clean".
      stop: a rule of `robustjax.attacks.stopping`.
      restarts: how often the attack is run.
      success: "last" or "any".
      targets: None, or which class each example is to reach: "next", "least" (likely) or "random".
      noise: standard deviation of the noise that is added in every step.
      sparsity: the share of the pixels that a step moves under "l1"; None: `SPARSITY`.
    """

    steps: int = 10
    step_size: jax.Array | float | None = None
    loss: Loss | str = losses.cross_entropy
    start: CleanImages | str = "uniform"
    stop: StopRule | None = None
    restarts: int = 1
    success: str = "last"
    targets: str | None = None
    noise: jax.Array | float | None = None
    sparsity: float | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> PGD:
        """With the step size as a number, and under "l1" the sparsity of a step."""
        return with_step_size(with_sparsity(self, threat), threat)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageLabels,
        threat: ThreatModel,
        *,
        target: Any = None,
        targets: ImageClasses | None = None,
        start: CleanImages | None = None,
        budget: jax.Array | int | None = None,
        independent_rows: bool = False,
    ) -> AttackResult:
        """Attacks images; the arrays, which belong to the images, are as for `pgd`."""
        checks.checked_logits_fn(logits_fn)
        loss = loss_named(self.loss)
        checked_function("loss", loss, "losses, such as losses.cross_entropy")
        images = checks.checked_images(images)
        batch_size, dtype = len(images), images.dtype
        labels = checks.checked_labels(labels, batch_size)
        steps = checked_count("steps", self.steps, 0)
        restarts = checked_count("restarts", self.restarts, 1)
        require_choice("success", self.success, ("last", "any"))
        threat = checks.checked_threat(threat, batch_size, dtype)
        checks.check_inside_box(images, threat)
        start_name, start_images = checks.checked_start(
            self.start if start is None else start, images, threat, restarts
        )
        if targets is None and self.targets is not None and batch_size:
            targets = named_targets(self.targets, key, logits_fn, images, labels)
        if targets is not None:
            if target is not None:
                raise UserError("target and targets are both given: accepted is one of them")
            targets = target = checks.checked_targets(targets, batch_size)
            loss = Lowered(loss)
        step_size = self.step_size
        if step_size is None:
            step_size = _default_step_size(threat, steps)
        size = checked_scale("step_size", step_size, batch_size, dtype)
        checks.warn_if_short(threat.epsilon, steps, size)
        inputs = Inputs(
            start_name=start_name,
            rule_class=type(self.stop),
            key=checked_key(key, batch_size),
            images=images,
            start_images=start_images,
            labels=labels,
            target=checks.checked_target(labels if target is None else target, batch_size),
            threat=threat,
            step_size=size,
            budget=checks.checked_budget(budget, steps, batch_size),
            noise=None
            if self.noise is None
            else checked_scale("noise", self.noise, batch_size, dtype),
            sparsity=jnp.asarray(checks.checked_sparsity(self.sparsity, threat.norm), dtype),
            rule=checked_rule(self.stop),
        )
        if not batch_size:
            return AttackResult.empty(images)
        attack = GradientAscent(stop_at_success=self.success == "any", targeted=targets is not None)
        model = gradient_model(loss, logits_fn, labels, targets)
        examples = (images, inputs.target)
        stops_early = (
            self.stop is not None or budget is not None or self.success == "any" or restarts > 1
        )
        kept = engine.run(
            attack,
            model,
            examples,
            inputs,
            steps,
            restarts,
            compact=independent_rows and stops_early,
        )
        return AttackResult(kept.images, kept.success, kept.backward_passes)


def pgd(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    *,
    steps: int = 10,
    step_size: jax.Array | float | None = None,
    loss: Callable[[jax.Array, Any], jax.Array] = losses.cross_entropy,
    target: Any = None,
    start: CleanImages | str = "uniform",
    stop: StopRule | None = None,
    restarts: int = 1,
    success: str = "last",
    targets: ImageClasses | str | None = None,
    budget: jax.Array | int | None = None,
    noise: jax.Array | float | None = None,
    sparsity: float | None = None,
    independent_rows: bool = False,
) -> AttackResult:
    r"""Projected gradient ascent on a loss, with a stop rule per example.

    .. math:: x \leftarrow \Pi\big(x + \alpha \cdot d(\nabla_x \ell(z(x), t))\big)

    with :math:`\Pi` the projection of the threat model and :math:`d` its steepest unit step: the
    sign of the gradient under "linf", the gradient over its length under "l2". Under "l1" it is
    the signs in the pixels of the largest gradients, over their number; a pixel that stands at the
    bound that it would move to is passed over. Pixels and gradients are float32 whatever the logits
    are. A NaN in a gradient moves no pixel.

    A call costs one forward and one backward pass per step and one forward pass for `success` (two
    if the rule is asked after the last step). Under jit the last one vanishes if `success` is not
    used.

    Outside of jit, `logits_fn` is traced at every call, so what it captured is never stale, and
    compiled once per structure, so other weights of the same shapes cost no compilation. The trace
    of the model and its gradient takes from a tenth of a second to seconds, whatever the batch.
    With one of the losses of `robustjax`, `jax.tree_util.Partial(pure_function, weights)` saves the
    trace too: JAX then recognises `pure_function` by identity, as it does for jit. (A label beyond
    the last class is then no error, because the number of classes is not looked up.)

    Args:
      key: one random key, from which each example's key is derived by its position, or `[B]` keys.
      logits_fn: maps images `[B, ...]` to logits `[B, K]`; row i must depend on image i alone,
        unless what couples the rows (batch statistics) is meant to.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works), inside the box; none
        give an empty result.
      labels: int `[B]` in [0, K), or probabilities `[B, K]`.
      threat: the norm ball and the box.
      steps: number of steps, a Python int, 0 or more.
      step_size: in units of the images, finite, at least 0; a scalar or `[B]`; may be traced. None:
        max(ε / 10, 2 ε / steps), see `step_size.default_step_size`.
      loss: ascended; called as `loss(logits, target)`, gives `[B]`. Logits come at least as
        float32. With `targets` it is lowered, and called as `loss(logits, targets)`.
      target: array or pytree of arrays, each `[B, ...]`; defaults to the labels. For TRADES the
        clean logits, with `loss=lambda z, clean: losses.kl_divergence(clean, z)`.
      start: "uniform", from the ball, then clipped to the box; "gaussian", 0.001 times normal
        noise; "sign", plus or minus epsilon / 2 per pixel (under "l2" and "l1" of length epsilon /
        2 in all); "clean"; or an array shaped like the images. Only "uniform" is projected before
        the first gradient. What is returned is always projected.
      stop: a rule of `robustjax.attacks.stopping`, or None to take all steps.
      restarts: how often the attack is run. Kept, per example, is the first success, else the point
        of the highest loss; examples with a success are left alone from then on.
      success: "last" judges the last iterate. "any" stops an example at its first successful
        iterate inside the ball and the box, and returns that. The start counts if it is inside.
      targets: int `[B]`, classes in [0, K): makes the attack a targeted one, whose success is that
        the target is predicted. Restarts, "any" and `stopping.misclassified` go by that too. An
        example whose target is its label has succeeded where it is classified correctly. By name:
        "next", the class after the label; "least", the least likely wrong one; "random", a wrong
        one that is drawn.
      budget: int, steps that an example may take per restart, at most `steps`; a scalar or `[B]`;
        may be traced. None: `steps`.
      noise: standard deviation of normal noise that is added in every step, before the projection,
        in units of the images; a scalar or `[B]`, at least 0; may be traced. None: no noise.
      sparsity: the share of the numbers of an image that a step moves under "l1", a Python number
        in [0, 1], at least one of them (with 0 it is one). None: 0.02, `threat_model.SPARSITY`. One
        pixel alone is the steepest, but then an image changes one pixel after the other. Refused
        under the other norms.
      independent_rows: True promises that row i of `logits_fn` and of `loss` depends on image i and
        on row i of `target` alone, whatever else is in the batch and however many they are (batch
        norm by running statistics; no captured array with a row per example). Then examples that
        have stopped are not computed any more, and the time follows the mean of
        `backward_passes`; the result is that of False up to rounding. It cannot be differentiated
        in reverse mode.

    Returns:
      An `AttackResult`: images `[B, ...]`, success bool `[B]` (at the returned images), and
      backward_passes int32 `[B]`.

    Warns:
      UserWarning: the steps reach less far than epsilon, or the ball holds the whole box.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted; the message says
        which.

    Example:
      >>> import jax.numpy as jnp
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = pgd(jax.random.key(0), network, images, labels, threat, steps=5)
      >>> print(result.success)
      [ True]

    Source: Towards Deep Learning Models Resistant to Adversarial Attacks (Madry et al., 2018),
      section 2.1. Stop rules: see `robustjax.attacks.stopping`. Budgets: Curriculum Adversarial
      Training (Cai et al., 2018). Noise: FAT's official code. The sign start and success at any
      iterate: NAP's evaluation and code. Sparse steps under "l1": Adversarial Training and
      Robustness for Multiple Perturbations (Tramèr and Boneh, 2019), the sparse l1 descent attack,
      which moves 1 % of the pixels; the projection on ball and box: Mind the Box (Croce & Hein,
      2021), whose l1-APGD begins with 20 %.
    """
    by_name, classes = (targets, None) if isinstance(targets, str) else (None, targets)
    return PGD(
        steps=steps,
        step_size=step_size,
        loss=loss,
        start=start,
        stop=stop,
        restarts=restarts,
        success=success,
        targets=by_name,
        noise=noise,
        sparsity=sparsity,
    )(
        key,
        logits_fn,
        images,
        labels,
        threat,
        target=target,
        targets=classes,
        budget=budget,
        independent_rows=independent_rows,
    )


def with_step_size(attack: Any, threat: ThreatModel) -> Any:
    """An attack of so many steps with their size as a number."""
    if attack.step_size is not None or not checks.has_finite_epsilon(threat):
        return attack
    size = float(default_step_size(threat.epsilon, attack.steps))
    return dataclasses.replace(attack, step_size=size)


def with_sparsity(attack: Any, threat: ThreatModel) -> Any:
    """An attack with the sparsity of its steps as a number, where the norm has such."""
    if attack.sparsity is not None or threat.norm != "l1":
        return attack
    return dataclasses.replace(attack, sparsity=SPARSITY)


def loss_named(loss: Loss | str) -> Loss:
    """The loss of a name; a function is given back.

    Raises:
      ValueError: no loss has that name.
    """
    if not isinstance(loss, str):
        return loss
    require_choice("loss", loss, tuple(LOSSES))
    return LOSSES[loss]


def _default_step_size(threat: ThreatModel, steps: int) -> jax.Array:
    if not checks.has_finite_epsilon(threat):
        raise UserError(
            f"threat.epsilon={threat.epsilon}: no step follows from it; give a step_size"
        )
    return default_step_size(threat.epsilon, steps)
