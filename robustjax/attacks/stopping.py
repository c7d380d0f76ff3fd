"""When an example stops being attacked before its steps are used up: one rule per paper.

A rule is a frozen dataclass registered as a pytree, and it is its own state. `start` spreads its
parameters over the batch; `check` looks at the current point of every example and says which stop.
Another rule is another such class:

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class ConfidentlyWrong:
        margin: jax.Array
        after_last_step: ClassVar[bool] = False

        def start(self, batch_size):
            return ConfidentlyWrong(jnp.broadcast_to(self.margin, (batch_size,)))

        def check(self, point):
            stop = losses.cw_margin(point.logits, point.labels) > self.margin
            return Decision(self, stop, revert=jnp.zeros_like(stop))
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import LARGEST_COUNT, kind, refusal, shown
from robustjax.arguments.arrays import as_array, at_least_float32, known
from robustjax.attacks.threat_model import ThreatModel


class Point(NamedTuple):
    """Where every example of the batch stands when its rule is asked.

    Attributes:
      images: `[B, ...]`, the current points.
      clean: `[B, ...]`, the clean images.
      labels: int `[B]` or probabilities `[B, K]`.
      logits: `[B, K]` at the current points.
      misclassified: bool `[B]`, the label is not what is predicted; of a targeted attack, the
        target is.
      loss: `[B]`, the ascended loss at the current points.
      gradient: `[B, ...]`, its gradient there. Of no cost after the last step if it goes unread.
      taken: int32 `[B]`, the steps taken so far; 0 at the start.
      threat: the threat model, with one epsilon per example.
    """

    images: jax.Array
    clean: jax.Array
    labels: jax.Array
    logits: jax.Array
    misclassified: jax.Array
    loss: jax.Array
    gradient: jax.Array
    taken: jax.Array
    threat: ThreatModel


class Decision(NamedTuple):
    """A rule's answer.

    Attributes:
      rule: the rule with its state brought forward.
      stop: bool `[B]`, the example takes no further step.
      revert: bool `[B]`, of those that stop: return to the point before the last step (at the
        start: stay there).
    """

    rule: Any
    stop: jax.Array
    revert: jax.Array


class StopRule(Protocol):
    """What `pgd` asks of a rule.

    Attributes:
      after_last_step: whether an example is asked once more after its last step, which costs a
        forward pass.
    """

    after_last_step: ClassVar[bool]

    def start(self, batch_size: int) -> StopRule:
        """The rule at the start of an attack, every leaf with a leading axis of the batch."""
        ...

    def check(self, point: Point) -> Decision:
        """Decides at the current points. Answers for examples that stopped before are ignored."""
        ...


def checked_rule(stop: Any) -> Any:
    """A stop rule with arrays as leaves, or None."""
    if stop is None:
        return None
    if not all(hasattr(stop, part) for part in ("start", "check", "after_last_step")):
        accepted = "rules of attacks.stopping, such as misclassified(0)"
        raise refusal("stop", shown(stop), accepted)
    if jax.tree_util.all_leaves([stop]):
        accepted = "pytrees: register the class with jax.tree_util.register_dataclass"
        raise refusal("stop", type(stop).__name__, accepted)
    return jax.tree.map(lambda leaf: as_array("stop", leaf), stop)


def _kind(name: str) -> Any:
    """A static field that tells a rule's tree structure from those of other rules.

    The structures of two registered dataclasses with as many leaves compare equal, whatever their
    classes (jaxlib 0.10 to 0.12). Their hashes differ, so that jit takes the program of one for the
    other only now and then.
    """
    return dataclasses.field(default=name, repr=False, metadata={"static": True})


def _threshold(value: Any) -> jax.Array:
    """A threshold in its own precision, and at least float32."""
    array = as_array("threshold", value)
    numbers = known(array)
    if not jnp.issubdtype(array.dtype, jnp.number) or (
        numbers is not None and np.isnan(numbers).any()
    ):
        raise refusal("threshold", shown(value), "numbers, one for all or one for each example")
    return array.astype(at_least_float32(array.dtype))


def _spread(name: str, value: jax.Array, batch_size: int) -> jax.Array:
    if value.shape not in ((), (batch_size,)):
        accepted = f"a number, or one for each of the {batch_size} examples"
        raise refusal(name, kind(value), accepted)
    return jnp.broadcast_to(value, (batch_size,))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Misclassified:
    """State of `misclassified`: how many more misclassified points are let pass."""

    remaining: Any
    kind: str = _kind("misclassified")
    after_last_step: ClassVar[bool] = False

    def start(self, batch_size: int) -> Misclassified:
        """See `StopRule.start`."""
        return Misclassified(_spread("tau", jnp.asarray(self.remaining, jnp.int32), batch_size))

    def check(self, point: Point) -> Decision:
        """See `StopRule.check`."""
        stop = point.misclassified & (self.remaining <= 0)
        remaining = self.remaining - point.misclassified.astype(self.remaining.dtype)
        return Decision(Misclassified(remaining), stop, jnp.zeros_like(stop))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossAbove:
    """State of `loss_above`."""

    threshold: Any
    kind: str = _kind("loss_above")
    after_last_step: ClassVar[bool] = True

    def start(self, batch_size: int) -> LossAbove:
        """See `StopRule.start`."""
        return LossAbove(_spread("threshold", _threshold(self.threshold), batch_size))

    def check(self, point: Point) -> Decision:
        """See `StopRule.check`."""
        stop = ~(point.loss <= self.threshold)  # NaN is above every threshold.
        return Decision(self, stop, stop)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FirstOrderStationary:
    """State of `fosc`."""

    threshold: Any
    kind: str = _kind("fosc")
    after_last_step: ClassVar[bool] = False

    def start(self, batch_size: int) -> FirstOrderStationary:
        """See `StopRule.start`."""
        return FirstOrderStationary(_spread("threshold", _threshold(self.threshold), batch_size))

    def check(self, point: Point) -> Decision:
        """See `StopRule.check`."""
        moved = (point.images - point.clean) * point.gradient
        gained = moved.reshape(moved.shape[0], -1).sum(axis=1)
        condition = point.threat.epsilon * point.threat.dual_norm(point.gradient) - gained
        stop = (condition <= self.threshold) & (point.taken > 0)
        return Decision(self, stop, jnp.zeros_like(stop))


def misclassified(tau: jax.Array | int) -> Misclassified:
    """Stop tau steps after the first misclassification: friendly adversarial training's PGD-K-tau.

    Asked before each step, the start included, and never after the last. An example that is
    misclassified there stops at that very point if tau of its earlier points were misclassified,
    consecutive or not; otherwise it goes on. With tau = 0 an example that is misclassified at the
    start takes no step.

    Args:
      tau: int, at least 0; a scalar or `[B]`; may be traced.

    Returns:
      A rule for `pgd`.

    Raises:
      ValueError: `tau` is not of an integer type, or a known value is negative.

    Source: Friendly Adversarial Training (Zhang et al., 2020), Algorithm 1.
    """
    count = as_array("tau", tau)
    whole, values = jnp.issubdtype(count.dtype, jnp.integer), known(tau)
    if not whole or (values is not None and np.any((values < 0) | (values > LARGEST_COUNT))):
        raise refusal("tau", shown(tau), f"whole numbers of steps, 0 to {LARGEST_COUNT}")
    return Misclassified(count.astype(jnp.int32))


def loss_above(threshold: jax.Array | float) -> LossAbove:
    """Stop as soon as the loss exceeds a threshold, and undo the step that made it so.

    Asked at the start and after every step, the last included; the comparison is strict. The
    undone step's gradient counts as a backward pass. For SENSE with confidence c, ascend the
    cross-entropy with threshold -log c.

    Args:
      threshold: float, in units of the ascended loss; a scalar or `[B]`; may be traced.

    Returns:
      A rule for `pgd`.

    Source: Sensible Adversarial Learning (Kim & Wang, 2020), Algorithm 1.
    """
    return LossAbove(_threshold(threshold))


def fosc(threshold: jax.Array | float) -> FirstOrderStationary:
    r"""Stop where a first-order step can gain little more.

    .. math:: \text{FOSC}(x) = \epsilon \|\nabla f(x)\|_* - \langle x - x_0, \nabla f(x) \rangle

    with :math:`x_0` the clean image and the norm dual to the ball's (L1 for "linf"). The first step
    is unconditional; after that an example stops where FOSC is at most the threshold. The gradient
    that shows it is not followed and does not count as a backward pass.

    Args:
      threshold: float; a scalar or `[B]`; may be traced. 0 runs the attack to the corner.

    Returns:
      A rule for `pgd`.

    Source: On the Convergence and Robustness of Adversarial Training (Wang et al., 2019), eq. 4
      and Algorithm 1.
    """
    return FirstOrderStationary(_threshold(threshold))
