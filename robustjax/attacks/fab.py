"""Targeted FAB: the fast adaptive boundary attack, which looks for the smallest perturbation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import checked_count, checked_number
from robustjax.attacks._fab_projection import smallest_move
from robustjax.attacks.attack import run_whole
from robustjax.attacks.engine.keys import fold_in_each, per_example_keys
from robustjax.attacks.engine.model import gradient_model
from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.engine.rows import flat_rows, misclassified, where_rows
from robustjax.attacks.result import AttackResult
from robustjax.attacks.targets import RankedInputs, lead_of_target, ranked_inputs
from robustjax.attacks.threat_model import ThreatModel, per_example, unit_vectors
from robustjax.shapes import CleanImages, ImageClasses

# The share of the way to the ball's surface at which an additional restart begins.
_START_RADIUS = 0.5
# Below this, a distance from a hyperplane counts as this much.
_LEAST_DISTANCE = 1e-8


@dataclasses.dataclass(frozen=True)
class FABTargeted:
    """`fab_targeted` as a value; see there for the settings.

    Attributes:
      steps: for each target and restart, at least 1.
      num_targets: how many classes are tried.
      restarts: for each target.
      alpha_max: the bound on the clean image's share.
      overshoot: how far beyond the linearised boundary a step goes.
      backward: of the way back towards the clean image, how much is left.
    """

    steps: int = 100
    num_targets: int = 9
    restarts: int = 1
    alpha_max: float = 0.1
    overshoot: float = 1.05
    backward: float = 0.9

    def completed(self, threat: ThreatModel, num_classes: int) -> FABTargeted:
        """With no more targets than there are."""
        return dataclasses.replace(self, num_targets=min(self.num_targets, num_classes - 1))

    def prepare(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        first_target: jax.Array | int = 0,
    ) -> Prepared:
        """Checks the arguments, and looks at the clean images."""
        steps = checked_count("steps", self.steps, 1)
        num_targets = checked_count("num_targets", self.num_targets, 1)
        restarts = checked_count("restarts", self.restarts, 1)
        attack = _FastAdaptiveBoundary(
            restarts=restarts,
            alpha_max=checked_number("alpha_max", self.alpha_max, 0, 1),
            overshoot=checked_number("overshoot", self.overshoot, 1),
            backward=checked_number("backward", self.backward, 0, 1),
        )
        inputs = ranked_inputs(key, logits_fn, images, labels, threat)
        inputs = inputs.aimed(first_target, num_targets)
        model = gradient_model(lead_of_target, logits_fn, inputs.labels)
        examples = (inputs.images, (inputs.labels, inputs.labels))
        return Prepared(attack, model, examples, inputs, steps, num_targets * restarts, _outcome)

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        first_target: jax.Array | int = 0,
    ) -> AttackResult:
        """Attacks images; `first_target` is as for `fab_targeted`."""
        return run_whole(self, key, logits_fn, images, labels, threat, first_target=first_target)


def fab_targeted(
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    steps: int = 100,
    num_targets: int = 9,
    first_target: jax.Array | int = 0,
    restarts: int = 1,
    alpha_max: float = 0.1,
    overshoot: float = 1.05,
    backward: float = 0.9,
) -> AttackResult:
    r"""FAB towards one wrong class after the other.

    A step linearises :math:`z_t - z_y` at the current point :math:`x`, projects :math:`x` and the
    clean image :math:`x_0` on the plane where that vanishes, by moves :math:`\delta` and
    :math:`\delta_0` inside the box that are the smallest in the norm, and goes to

    .. math:: (1 - \alpha)(x + \eta \delta) + \alpha (x_0 + \eta \delta_0), \quad \alpha =
              \min\Big(\frac{\|\delta\|}{\|\delta\| + \|\delta_0\|}, \alpha_{\max}\Big)

    clipped to the box. From a point that is misclassified, as whatever class, it goes back towards
    the clean image: :math:`x_0 + \beta (x - x_0)`.

    The targets are the classes of the 2nd, 3rd, ... largest clean logit. With a finite epsilon an
    example is left alone, by this target and those that follow, from its first misclassified point
    inside the ball on. (The authors' code goes on to the last step of the target; whether there is
    such a point is the same.) With an infinite one all steps towards all targets are taken, and the
    closest misclassified point is returned. Images that are misclassified before are not attacked.

    A call costs two forward passes and one backward pass per step of each target and restart, and
    one forward pass at the start.

    Args:
      key: one random key, or `[B]` keys. Has no effect with one restart.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
      images: clean images, floating, `[B, H, W, C]` (any `[B, ...]` works), inside the box.
      labels: int `[B]` in [0, K).
      threat: the norm ball, whose epsilon may be infinite, and the box.
      steps: for each target and restart, at least 1.
      num_targets: how many classes are tried, at most the number of wrong ones.
      first_target: how many runners-up are passed over, or `[B]`, of each example; may be traced.
        To attack one target at a time: `num_targets=1` with 0, 1, 2, ... on what is left.
      restarts: for each target. The first begins at the clean image, each other one at a random
        point at half of epsilon, or of the smallest distance found so far if that is less.
      alpha_max: the bound on the clean image's share, a Python number in [0, 1].
      overshoot: :math:`\eta`, a Python number, at least 1.
      backward: :math:`\beta`, a Python number in [0, 1].

    Returns:
      An `AttackResult`. Images that withstand are returned as they were.

    Raises:
      ValueError: there are fewer wrong classes than targets, or an argument has a shape, dtype or
        value that is not accepted; the message says which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> result = fab_targeted(jax.random.key(0), network, images, labels, threat, num_targets=1)
      >>> print(result.success)
      [ True]

    Source: Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack (Croce &
      Hein, 2020), section 2 and Algorithm 1, in the targeted version of Reliable Evaluation of
      Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks (2020), section 5.
      As in the authors' code, the paper's final search on the line between the clean and the
      adversarial image is left out, and the random direction of a restart is a uniform draw from
      a cube under "linf", a normal one under "l2" and "l1".
    """
    return FABTargeted(steps, num_targets, restarts, alpha_max, overshoot, backward)(
        key, logits_fn, images, labels, threat, first_target=first_target
    )


def _outcome(kept: _Kept) -> AttackResult:
    return AttackResult(kept.images, jnp.isfinite(kept.distance), kept.backward_passes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Rows:
    """The state of the loop; every leaf has a leading axis of the batch.

    `closest` is the closest misclassified point inside the ball so far, or the clean image, and
    `distance` how far it is from the clean image, or infinity.
    """

    images: jax.Array
    clean: jax.Array
    target: tuple[jax.Array, jax.Array]
    threat: ThreatModel
    closest: jax.Array
    distance: jax.Array
    taken: jax.Array
    active: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Kept:
    """The closest point of the restarts and targets so far; see `_Rows`."""

    images: jax.Array
    distance: jax.Array
    backward_passes: jax.Array


@dataclasses.dataclass(frozen=True)
class _FastAdaptiveBoundary:
    """FAB in the parts that `iteration` repeats: all restarts of a target, then the next target."""

    restarts: int
    alpha_max: float
    overshoot: float
    backward: float

    def nothing_kept(self, inputs: RankedInputs) -> _Kept:
        return _Kept(
            images=inputs.images,
            distance=jnp.where(inputs.attacked, jnp.inf, 0).astype(inputs.images.dtype),
            backward_passes=jnp.zeros(len(inputs.images), jnp.int32),
        )

    def start(
        self, inputs: RankedInputs, kept: _Kept | None, restart: jax.Array | np.int32
    ) -> _Rows:
        clean = inputs.images
        batch_size, dtype = len(clean), clean.dtype
        threat = inputs.threat.for_batch(batch_size, dtype)
        kept = self.nothing_kept(inputs) if kept is None else kept
        number = inputs.first + restart // self.restarts
        settled = jnp.isfinite(kept.distance) & jnp.isfinite(threat.epsilon)
        images = clean
        if self.restarts > 1:
            keys = fold_in_each(per_example_keys(inputs.key, batch_size), number)
            keys = fold_in_each(keys, restart % self.restarts)
            radius = _START_RADIUS * jnp.minimum(kept.distance, threat.epsilon)
            radius = per_example(jnp.where(jnp.isfinite(radius), radius, 0), clean)
            random = threat.clip(clean + radius * threat.random_directions(keys, clean))
            images = jnp.where(restart % self.restarts > 0, random, clean)
        return _Rows(
            images=images,
            clean=clean,
            target=inputs.target(number),
            threat=threat,
            closest=kept.images,
            distance=kept.distance,
            taken=jnp.zeros(batch_size, jnp.int32),
            active=inputs.attacked & ~settled,
        )

    def step(self, model: Callable[..., Any], rows: _Rows) -> _Rows:
        _, lead, gradient = model(rows.images, rows.target)
        moved = self._moved(rows, lead, gradient)
        logits, _, _ = model(moved, rows.target)
        wrong = misclassified(logits, rows.target[0])
        inside = flat_rows(rows.threat.project(moved, rows.clean) == moved).all(axis=1)
        found = rows.active & wrong & inside
        distance = _length(moved - rows.clean, rows.threat.norm)
        closer = found & (distance < rows.distance)
        back = rows.clean + self.backward * (moved - rows.clean)
        return dataclasses.replace(
            rows,
            images=where_rows(rows.active, where_rows(wrong, back, moved), rows.images),
            closest=where_rows(closer, moved, rows.closest),
            distance=jnp.where(closer, distance, rows.distance),
            taken=rows.taken + rows.active.astype(rows.taken.dtype),
            active=rows.active & ~(found & jnp.isfinite(rows.threat.epsilon)),
        )

    def result(self, model: Callable[..., Any], rows: _Rows, kept: _Kept | None) -> _Kept:
        before = 0 if kept is None else kept.backward_passes
        return _Kept(rows.closest, rows.distance, before + rows.taken)

    def _moved(self, rows: _Rows, lead: jax.Array, gradient: jax.Array) -> jax.Array:
        """A step on from the current points, before it is judged."""
        images, clean, threat = rows.images, rows.clean, rows.threat
        normal = jnp.nan_to_num(gradient)
        # From differences: exact also where the inner products with the images are large.
        gap = -jnp.nan_to_num(lead.astype(images.dtype))
        clean_gap = gap + jnp.nan_to_num(jnp.sum(flat_rows(normal * (images - clean)), axis=1))
        move = smallest_move(images, normal, gap, threat)
        clean_move = smallest_move(clean, normal, clean_gap, threat)
        length, clean_length = (
            jnp.maximum(_length(part, threat.norm), _LEAST_DISTANCE) for part in (move, clean_move)
        )
        alpha = per_example(jnp.minimum(length / (length + clean_length), self.alpha_max), images)
        return threat.clip(
            (1 - alpha) * (images + self.overshoot * move)
            + alpha * (clean + self.overshoot * clean_move)
        )


def _length(vectors: jax.Array, norm: str) -> jax.Array:
    """The norm of every example of `[B, ...]`, as `[B]`."""
    if norm == "linf":
        return jnp.max(jnp.abs(flat_rows(vectors)), axis=1, initial=0)
    if norm == "l1":
        return jnp.sum(jnp.abs(flat_rows(vectors)), axis=1)
    return unit_vectors(vectors)[1].reshape(-1)
