"""Projected gradient ascent: one loop with a start, a pure step, a stop rule and restarts.

Nearly every inner maximisation of the adversarial-training literature is a setting of `pgd`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import losses
from robustjax.arguments import require_choice
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key, fold_in_each, per_example_keys
from robustjax.attacks.engine.model import Lowered, gradient_model
from robustjax.attacks.engine.rows import classified_as, misclassified, where_rows
from robustjax.attacks.result import AttackResult
from robustjax.attacks.stopping import Point, StopRule
from robustjax.attacks.targets import named_targets
from robustjax.attacks.threat_model import ThreatModel, per_example
from robustjax.errors import UserError
from robustjax.shapes import CleanImages, ImageClasses, ImageLabels
from robustjax.step_size import default_step_size

STARTS = checks.STARTS

# The standard deviation of the start noise in TRADES's and MART's official code.
GAUSSIAN_START = 0.001

# Folded into an example's key for the noise of its steps.
_NOISE = 1

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

    def completed(self, threat: ThreatModel, num_classes: int) -> PGD:
        """With the step size as a number."""
        return with_step_size(self, threat)

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
        checks.checked_function("loss", loss, "a loss, such as losses.cross_entropy")
        images = checks.checked_images(images)
        batch_size, dtype = len(images), images.dtype
        labels = checks.checked_labels(labels, batch_size)
        steps = checks.checked_count("steps", self.steps, 0)
        restarts = checks.checked_count("restarts", self.restarts, 1)
        if self.success not in ("last", "any"):
            raise UserError(f'success is {self.success!r}; it must be "last" or "any"')
        threat = checks.checked_threat(threat, batch_size, dtype)
        checks.check_inside_box(images, threat)
        start_name, start_images = checks.checked_start(
            self.start if start is None else start, images, threat, restarts
        )
        if targets is None and self.targets is not None and batch_size:
            targets = named_targets(self.targets, key, logits_fn, images, labels)
        if targets is not None:
            if target is not None:
                raise UserError("target and targets are both given; a targeted attack has no other")
            targets = target = checks.checked_targets(targets, batch_size)
            loss = Lowered(loss)
        step_size = self.step_size
        if step_size is None:
            step_size = _default_step_size(threat, steps)
        size = checks.checked_scale("step_size", step_size, batch_size, dtype)
        checks.warn_if_short(threat.epsilon, steps, size)
        inputs = _Inputs(
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
            else checks.checked_scale("noise", self.noise, batch_size, dtype),
            rule=checks.checked_rule(self.stop),
        )
        if not batch_size:
            return AttackResult.empty(images)
        attack = _GradientAscent(
            stop_at_success=self.success == "any", targeted=targets is not None
        )
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
    independent_rows: bool = False,
) -> AttackResult:
    r"""Projected gradient ascent on a loss, with a stop rule per example.

    .. math:: x \leftarrow \Pi\big(x + \alpha \cdot d(\nabla_x \ell(z(x), t))\big)

    with :math:`\Pi` the projection of the threat model and :math:`d` its steepest unit step: the
    sign of the gradient under "linf", the gradient over its length under "l2". Pixels and gradients
    are float32 whatever the logits are. A NaN in a gradient moves no pixel.

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
        noise; "sign", plus or minus epsilon / 2 per pixel (under "l2" of length epsilon / 2 in
        all); "clean"; or an array shaped like the images. Only "uniform" is projected before the
        first gradient. What is returned is always projected.
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
      iterate: NAP's evaluation and code.
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
            f"threat.epsilon is {threat.epsilon}, from which no step follows; give a step_size"
        )
    return default_step_size(threat.epsilon, steps)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The arguments of an attack; every leaf has a leading axis of the batch, or is a scalar.

    The rule's class is named because structures of different dataclasses may compare equal, see
    `stopping`, and a rule may be the user's own.
    """

    start_name: str = dataclasses.field(metadata={"static": True})
    rule_class: type = dataclasses.field(metadata={"static": True})
    key: jax.Array
    images: jax.Array
    start_images: jax.Array | None
    labels: jax.Array
    target: Any
    threat: ThreatModel
    step_size: jax.Array
    budget: jax.Array
    noise: jax.Array | None
    rule: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Noise:
    """The noise of the steps: its standard deviation, and the key that an example draws from."""

    key: jax.Array
    deviation: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `legal` says whether the current images are known to be inside the ball and the box. All but
    some starts are.
    """

    rule_class: type = dataclasses.field(metadata={"static": True})
    images: jax.Array
    previous: jax.Array
    clean: jax.Array
    labels: jax.Array
    target: Any
    threat: ThreatModel
    step_size: jax.Array
    budget: jax.Array
    taken: jax.Array
    legal: jax.Array
    noise: _Noise | None
    rule: Any
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Kept:
    """The best of the restarts so far."""

    images: jax.Array
    success: jax.Array
    loss: jax.Array
    backward_passes: jax.Array


@dataclasses.dataclass(frozen=True)
class _GradientAscent:
    """`pgd` in the parts that `iteration` repeats."""

    stop_at_success: bool
    targeted: bool

    def nothing_kept(self, inputs: _Inputs) -> _Kept:
        batch = inputs.images.shape[:1]
        return _Kept(
            images=inputs.images,
            success=jnp.zeros(batch, bool),
            loss=jnp.full(batch, -jnp.inf, inputs.images.dtype),
            backward_passes=jnp.zeros(batch, jnp.int32),
        )

    def start(self, inputs: _Inputs, kept: _Kept | None, restart: jax.Array | np.int32) -> _Rows:
        clean = inputs.images
        batch_size, dtype = len(clean), clean.dtype
        threat = inputs.threat.for_batch(batch_size, dtype)
        keys = fold_in_each(per_example_keys(inputs.key, batch_size), restart)
        images = _start_images(inputs, threat, keys)
        budget = jnp.broadcast_to(inputs.budget, (batch_size,))
        # Rows without a step to take are looked at only by a rule that looks at the end.
        active = (budget > 0) | _asks_after_last(inputs.rule)
        if kept is not None:
            active &= ~kept.success
        return _Rows(
            rule_class=inputs.rule_class,
            images=images,
            previous=images,
            clean=clean,
            labels=inputs.labels,
            target=inputs.target,
            threat=threat,
            step_size=jnp.broadcast_to(inputs.step_size, (batch_size,)),
            budget=budget,
            taken=jnp.zeros(batch_size, jnp.int32),
            legal=_legal_starts(inputs.start_name, images, threat, clean),
            noise=_start_noise(inputs.noise, keys),
            rule=None if inputs.rule is None else inputs.rule.start(batch_size),
            active=active,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        logits, loss, gradient = model(rows.images, rows.target)
        rows = self._ask(rows, logits, loss, gradient)
        moving = rows.active & (rows.taken < rows.budget)
        step_size = per_example(rows.step_size, rows.images)
        stepped = rows.images + step_size * rows.threat.steepest(gradient)
        if rows.noise is not None:
            stepped += _step_noise(rows.noise, rows.taken, rows.images)
        moved = rows.threat.project(stepped, rows.clean)
        taken = rows.taken + moving.astype(rows.taken.dtype)
        # A row at the end of its budget stays active only if its rule wants one more look.
        done = (taken >= rows.budget) if not _asks_after_last(rows.rule) else ~rows.active
        return dataclasses.replace(
            rows,
            images=where_rows(moving, moved, rows.images),
            previous=rows.images,
            taken=taken,
            legal=rows.legal | moving,
            active=moving & ~done,
        )

    def _ask(self, rows: _Rows, logits: jax.Array, loss: jax.Array, gradient: jax.Array) -> _Rows:
        """Lets the rule (and success "any") stop rows at the point that was just evaluated."""
        succeeded = self._succeeded(logits, rows)
        if self.stop_at_success:
            rows = dataclasses.replace(rows, active=rows.active & ~(succeeded & rows.legal))
        if rows.rule is None:
            return rows
        point = Point(
            images=rows.images,
            clean=rows.clean,
            labels=rows.labels,
            logits=logits,
            misclassified=succeeded,
            loss=loss,
            gradient=gradient,
            taken=rows.taken,
            threat=rows.threat,
        )
        decision = rows.rule.check(point)
        return dataclasses.replace(
            rows,
            images=where_rows(
                rows.active & decision.stop & decision.revert, rows.previous, rows.images
            ),
            rule=decision.rule,
            active=rows.active & ~decision.stop,
        )

    def _succeeded(self, logits: jax.Array, rows: _Rows) -> jax.Array:
        """Whether the target is reached, or, without one, the label left, bool `[B]`."""
        if self.targeted:
            return classified_as(logits, rows.target)
        return misclassified(logits, rows.labels)

    def result(self, model: Callable[..., Any], rows: _Rows, kept: _Kept | None) -> _Kept:
        if _asks_after_last(rows.rule):
            rows = self._ask(rows, *model(rows.images, rows.target))
        images = rows.threat.project(rows.images, rows.clean)
        logits, loss, _ = model(images, rows.target)
        succeeded = self._succeeded(logits, rows)
        found = _Kept(images, succeeded, loss.astype(images.dtype), rows.taken)
        if kept is None:
            return found
        better = ~kept.success & (
            found.success
            | (found.loss > kept.loss)
            | jnp.isnan(kept.loss)
            | jnp.isneginf(kept.loss)
        )
        chosen = jax.tree.map(functools.partial(where_rows, better), found, kept)
        return dataclasses.replace(
            chosen, backward_passes=kept.backward_passes + found.backward_passes
        )


def _start_images(inputs: _Inputs, threat: ThreatModel, keys: jax.Array) -> jax.Array:
    clean = inputs.images
    if inputs.start_images is not None:
        return inputs.start_images
    if inputs.start_name == "uniform":
        return threat.random_start(keys, clean)
    if inputs.start_name == "sign":
        return threat.sign_start(keys, clean)
    if inputs.start_name == "gaussian":
        shape, dtype = clean.shape[1:], clean.dtype
        noise = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
        return clean + GAUSSIAN_START * noise
    return clean


def _start_noise(deviation: jax.Array | None, keys: jax.Array) -> _Noise | None:
    if deviation is None:
        return None
    return _Noise(fold_in_each(keys, _NOISE), jnp.broadcast_to(deviation, keys.shape))


def _step_noise(noise: _Noise, taken: jax.Array, images: jax.Array) -> jax.Array:
    shape, dtype = images.shape[1:], images.dtype
    keys = jax.vmap(jax.random.fold_in)(noise.key, taken)
    draws = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
    return per_example(noise.deviation, images) * draws


def _legal_starts(
    start_name: str, images: jax.Array, threat: ThreatModel, clean: jax.Array
) -> jax.Array:
    if start_name == "uniform":
        return jnp.ones(len(images), bool)
    unmoved = threat.project(images, clean) == images
    return unmoved.reshape(len(images), -1).all(axis=1)


def _asks_after_last(rule: Any) -> bool:
    return rule is not None and rule.after_last_step
