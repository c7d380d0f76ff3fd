"""DeepFool: steps to the nearest of the linearised decision boundaries."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import checked_count, checked_number, kind, refusal
from robustjax.attacks import _checks as checks
from robustjax.attacks._fab_projection import smallest_move
from robustjax.attacks._nearest_classes import boundary_distance
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key
from robustjax.attacks.engine.model import clean_logits, gradient_model
from robustjax.attacks.engine.rows import misclassified, where_rows
from robustjax.attacks.result import AttackResult
from robustjax.attacks.targets import lead_of_target, runners_up
from robustjax.attacks.threat_model import ThreatModel, per_example
from robustjax.shapes import CleanImages, ImageClasses

ANY_LENGTH = ThreatModel("l2", math.inf)

# Of the box's width: the least step, lest it come to rest where two logits are equal.
_LEAST_STEP = 1e-5


@dataclasses.dataclass(frozen=True)
class DeepFool:
    """`deepfool` as a value; see there for the settings.

    Attributes:
      steps: the most that an example takes, 0 or more.
      overshoot: how far beyond the linearised boundary a step goes.
      num_classes: how many classes are considered; None: all.
    """

    steps: int = 50
    overshoot: float = 0.02
    num_classes: int | None = 10

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel = ANY_LENGTH,
    ) -> AttackResult:
        """Attacks images, as `deepfool` does."""
        checks.checked_logits_fn(logits_fn)
        images = checks.checked_images(images)
        batch_size = len(images)
        labels = checks.checked_hard_labels(labels, batch_size)
        steps = checked_count("steps", self.steps, 0)
        num_classes = self.num_classes
        if num_classes is not None:
            num_classes = checked_count("num_classes", num_classes, 2)
        attack = _Iteration(checked_number("overshoot", self.overshoot, 0))
        threat = checks.checked_threat(threat, batch_size, images.dtype)
        checks.check_inside_box(images, threat)
        checked_key(key, batch_size)
        if not batch_size:
            return AttackResult.empty(images)
        logits = clean_logits(logits_fn, images, labels)
        if logits.shape[1] < 2:
            raise refusal("logits_fn: logits", kind(logits), "[B, K] with 2 classes or more")
        rivals = runners_up(logits)[:, : None if num_classes is None else num_classes - 1]
        inputs = _Inputs(images, labels, threat, rivals, attacked=~misclassified(logits, labels))
        model = gradient_model(lead_of_target, logits_fn, labels)
        return engine.run(attack, model, (images, (labels, labels)), inputs, steps)


def deepfool(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel = ANY_LENGTH,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    num_classes: int | None = 10,
) -> AttackResult:
    r"""DeepFool, which looks for a small perturbation rather than the worst one in a ball.

    With :math:`f_k = z_k - z_y` linearised at the current point, a step goes to the nearest of the
    planes :math:`f_k = 0`, and a little beyond:

    .. math:: x \leftarrow x + (1 + \eta) \frac{|f_k|}{\|\nabla f_k\|_q} d(\nabla f_k), \quad
              k = \arg\min_{k \ne y} \frac{|f_k|}{\|\nabla f_k\|_q}

    with :math:`d` the gradient over its length and q = 2 under "l2", its sign and q = 1 under
    "linf"; then it is clipped to the box. Under "l1", with :math:`q = \infty`, the pixels of the
    largest gradients go to their bounds, one after the other, until as much is gained. An example
    stops at its first misclassified point. Images that are misclassified before are not attacked.

    With a finite epsilon that point is projected on the ball, and the attack has succeeded if it is
    misclassified there. DeepFool itself takes no notice of epsilon, so as an attack on a ball it is
    weak: much of what it finds lies outside of small balls. The adversary of the literature that
    counts points inside the ball alone is weaker still.

    A call costs, per step, two forward passes and a backward pass for each class but the true one,
    taken together as one batch; and one forward pass before and after.

    Args:
      key: one random key, or `[B]` keys. Nothing is drawn: it has no effect.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`, K >= 2; row i must depend on image i
        alone.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works), inside the box.
      labels: int `[B]` in [0, K).
      threat: the norm, the ball and the box. The default is the l2 norm, no ball, and the box
        (0, 1).
      steps: the most that an example takes, 0 or more.
      overshoot: :math:`\eta`, a Python number, at least 0.
      num_classes: how many classes are considered, those of the largest clean logits with the true
        one among them, at least 2; all if there are fewer. None: all.

    Returns:
      An `AttackResult`; `backward_passes` counts one for each class that a step considers beside
      the true one. An image that is still classified correctly is the last iterate, projected.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted; the message says
        which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = deepfool(jax.random.key(0), network, images, labels, threat)
      >>> print(result.success)
      [ True]

    Source: DeepFool: a Simple and Accurate Method to Fool Deep Neural Networks (Moosavi-Dezfooli et
      al., 2016), Algorithm 2 and, for "linf", section 3.3. As in the authors' code, every iterate
      carries the overshoot, in the paper only the last; their newer code also adds 1e-4 to the
      length of every step, which is at least 1e-5 of the box's width (of 1 without a box) here.
      They know no box; clipping every iterate is foolbox's (2.3), whose overshoot is 0.05. Under
      "l1" the step is FAB's (Croce & Hein, 2020), which knows the box.
    """
    return DeepFool(steps, overshoot, num_classes)(key, logits_fn, images, labels, threat)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The arguments of the attack, and what the clean images' logits say.

    `rivals` `[B, R]` are the wrong classes that are considered, `attacked` `[B]` the rows that are
    right so far.
    """

    images: jax.Array
    labels: jax.Array
    threat: ThreatModel
    rivals: jax.Array
    attacked: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch."""

    images: jax.Array
    clean: jax.Array
    labels: jax.Array
    rivals: jax.Array
    threat: ThreatModel
    taken: jax.Array
    active: jax.Array


@dataclasses.dataclass(frozen=True)
class _Iteration:
    """DeepFool in the parts that `iteration` repeats."""

    overshoot: float

    def nothing_kept(self, inputs: _Inputs) -> None:
        """Unused: there is one run."""

    def start(self, inputs: _Inputs, kept: None, restart: jax.Array | np.int32) -> _Rows:
        batch_size, dtype = len(inputs.images), inputs.images.dtype
        return _Rows(
            images=inputs.images,
            clean=inputs.images,
            labels=inputs.labels,
            rivals=inputs.rivals,
            threat=inputs.threat.for_batch(batch_size, dtype),
            taken=jnp.zeros(batch_size, jnp.int32),
            active=inputs.attacked,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        # The images are the same for all rivals: one forward pass, and a backward pass for each.
        over_rivals = jax.vmap(model, in_axes=(None, (None, 1)))
        _, leads, gradients = over_rivals(rows.images, (rows.labels, rows.rivals))
        distances = jax.vmap(boundary_distance, in_axes=(0, 0, None))(leads, gradients, rows.threat)
        nearest = jnp.argmin(distances, axis=0)
        row = jnp.arange(len(rows.images))
        distance = distances[nearest, row]
        # A network without a gradient is infinitely far, and stays put: it has no direction.
        least = _LEAST_STEP * _width(rows.threat)
        length = jnp.where(jnp.isfinite(distance), jnp.maximum(distance, least), 0)
        ahead = self._ahead(rows, gradients[nearest, row], (1 + self.overshoot) * length)
        moved = rows.threat.clip(rows.images + ahead)
        wrong = _misclassified(model, moved, rows)
        return dataclasses.replace(
            rows,
            images=where_rows(rows.active, moved, rows.images),
            taken=rows.taken + rows.active.astype(rows.taken.dtype),
            active=rows.active & ~wrong,
        )

    def _ahead(self, rows: _Rows, gradient: jax.Array, length: jax.Array) -> jax.Array:
        """The move along a gradient that gains as much as one of this length without a box."""
        if rows.threat.norm == "l1":
            gradient = jnp.nan_to_num(gradient)
            gain = length * rows.threat.dual_norm(gradient)
            return smallest_move(rows.images, gradient, gain, rows.threat)
        return per_example(length, rows.images) * rows.threat.steepest(gradient)

    def result(self, model: Callable[..., Any], rows: _Rows, kept: None) -> AttackResult:
        images = rows.threat.project(rows.images, rows.clean)
        return AttackResult(
            images=images,
            success=_misclassified(model, images, rows),
            backward_passes=rows.taken * rows.rivals.shape[1],
        )


def _width(threat: ThreatModel) -> jax.Array | float:
    """Of the box, `[B]`; 1 without one."""
    return 1.0 if threat.bounds is None else threat.bounds[1] - threat.bounds[0]


def _misclassified(model: Callable[..., Any], images: jax.Array, rows: _Rows) -> jax.Array:
    logits, _, _ = model(images, (rows.labels, rows.labels))
    return misclassified(logits, rows.labels)
