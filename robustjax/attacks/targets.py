"""Which classes a targeted attack aims at: those given, or the runners-up of the clean prediction.

`RankedInputs` are the arguments of an attack that begins with a look at the clean images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from robustjax.arguments import refusal, require_choice, shown
from robustjax.arguments.arrays import known
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine.keys import checked_key, first_key, fold_in_each, per_example_keys
from robustjax.attacks.engine.model import clean_logits, one_draw
from robustjax.attacks.engine.rows import misclassified, predicted
from robustjax.attacks.threat_model import ThreatModel
from robustjax.errors import UserError
from robustjax.losses._logits import at_class, class_mask
from robustjax.shapes import CleanImages, ImageClasses

NAMED = ("next", "least", "random")
"""Rules by which each example is given a class to reach."""

_DRAW = 2**31 - 1
"""Folded into an example's key for its random target: no restart has this number."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RankedInputs:
    """Checked arguments, and what the logits at the clean images say.

    Attributes:
      key: one key, or `[B]`.
      images: `[B, ...]`.
      labels: int32 `[B]`.
      threat: its leaves scalars or `[B]`.
      ranked: int32 `[B, K - 1]`, the runners-up, the likeliest first.
      first: int32, a scalar or `[B]`, how many of them are passed over.
      attacked: bool `[B]`, the images that are classified correctly; all of a random network's.
      prediction: int32 `[B]`, of the clean images.
      chosen: int32 `[B]`, the classes that they are to reach; None: none in particular.
    """

    key: jax.Array
    images: jax.Array
    labels: jax.Array
    threat: ThreatModel
    ranked: jax.Array
    first: jax.Array
    attacked: jax.Array
    prediction: jax.Array
    chosen: jax.Array | None = None

    def towards(self, targets: jax.Array, random: bool) -> RankedInputs:
        """With classes to reach, int32 `[B]`; what is predicted so already is not attacked."""
        attacked = self.attacked if random else (self.prediction != targets) | (targets < 0)
        return dataclasses.replace(self, chosen=targets, attacked=attacked)

    def aimed(self, first_target: jax.Array | int, num_targets: int) -> RankedInputs:
        """With targets from a runner-up on; refuses what there are too few classes for."""
        batch_size, num_wrong = self.ranked.shape
        first = checked_first_target(first_target, num_targets, num_wrong, batch_size)
        return dataclasses.replace(self, first=first)

    def target(self, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The labels and the target classes, int32 `[B]` each, of the targets of these numbers.

        Args:
          number: int32, a scalar or `[B]`.
        """
        numbers = jnp.broadcast_to(number, self.labels.shape)[:, None]
        return self.labels, jnp.take_along_axis(self.ranked, numbers, axis=1)[:, 0]


def ranked_inputs(
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    random: bool = False,
) -> RankedInputs:
    """Checks the arguments of an attack and looks at the clean images.

    Args:
      key: one random key, or `[B]` keys.
      logits_fn: maps images to logits; if `random`, images and a key.
      images: clean images, floating, `[B, ...]`.
      labels: int `[B]`.
      threat: the norm ball and the box.
      random: whether the network is; then one draw of it decides nothing, and all are attacked.

    Raises:
      ValueError: an argument has a shape, dtype or value that is not accepted.
    """
    checks.checked_logits_fn(logits_fn)
    images = checks.checked_images(images)
    batch_size = len(images)
    labels = checks.checked_hard_labels(labels, batch_size)
    threat = checks.checked_threat(threat, batch_size, images.dtype)
    checks.check_inside_box(images, threat)
    key = checked_key(key, batch_size)
    predict = one_draw(logits_fn, first_key(key)) if random else logits_fn
    logits = clean_logits(predict, images, labels)
    return RankedInputs(
        key=key,
        images=images,
        labels=labels,
        threat=threat,
        ranked=runners_up(logits),
        first=jnp.zeros((), jnp.int32),
        attacked=jnp.ones(batch_size, bool) if random else ~misclassified(logits, labels),
        prediction=predicted(logits),
    )


def named_targets(
    name: str,
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    labels: jax.Array,
) -> jax.Array:
    """A class to reach for each example, never its label.

    Args:
      name: "next", the class after the label; "least", the least likely wrong one at the clean
        image; "random", a wrong one that is drawn, the same for the same key.
      key: one random key, or `[B]` keys.
      logits_fn: maps images `[B, ...]` to logits `[B, K]`, K >= 2.
      images: clean, `[B, ...]`.
      labels: int `[B]`, or probabilities `[B, K]`, of which the largest counts.

    Returns:
      int32 `[B]`.

    Raises:
      ValueError: there is no such rule, or one class alone.
    """
    require_choice("targets", name, NAMED)
    logits = clean_logits(logits_fn, images, labels)
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise UserError(f"logits_fn gives {num_classes} class: accepted are 2 or more")
    if labels.ndim == 2:
        labels = labels.argmax(axis=-1)
    if name == "least":
        wrong = jnp.where(class_mask(labels, num_classes), jnp.inf, logits)
        return jnp.argmin(wrong, axis=-1).astype(jnp.int32)
    shift: jax.Array | int = 1
    if name == "random":
        keys = fold_in_each(per_example_keys(key, len(labels)), _DRAW)
        shift = jax.vmap(lambda key: jax.random.randint(key, (), 1, num_classes, jnp.int32))(keys)
    return ((labels + shift) % num_classes).astype(jnp.int32)


def runners_up(logits: jax.Array) -> jax.Array:
    """Every class but the predicted one, the likeliest first.

    Args:
      logits: `[B, K]`, at the clean images.

    Returns:
      int32 `[B, K - 1]`. Of equal logits the class of the smaller number comes first.
    """
    return jnp.argsort(-logits, axis=-1, stable=True)[:, 1:].astype(jnp.int32)


def checked_first_target(
    first_target: Any, num_targets: int, num_wrong: int, batch_size: int
) -> jax.Array:
    """Sees that there are as many wrong classes as targets, and enough after the first of them.

    Args:
      first_target: how many runners-up are passed over, an integer or `[B]`; may be traced.
      num_targets: how many follow.
      num_wrong: the number of wrong classes.
      batch_size: B.

    Returns:
      `first_target` as int32, a scalar or `[B]`.

    Raises:
      ValueError: there are too few classes, or `first_target` is no integer or out of range.
    """
    if num_targets > num_wrong:
        accepted = f"1 to {num_wrong}, the wrong ones of the {num_wrong + 1} classes"
        raise refusal("num_targets", shown(num_targets), accepted)
    first = jnp.asarray(first_target)
    if first.shape not in ((), (batch_size,)) or not jnp.issubdtype(first.dtype, jnp.integer):
        accepted = f"a whole number, or one for each of the {batch_size} images"
        raise refusal("first_target", shown(first_target), accepted)
    value = known(first_target)
    if value is not None and not ((value >= 0) & (value <= num_wrong - num_targets)).all():
        accepted = f"0 to {num_wrong - num_targets}, for {num_targets} of {num_wrong} wrong classes"
        raise refusal("first_target", shown(first_target), accepted)
    return first.astype(jnp.int32)


def lead_of_target(logits: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
    """How far the target class is ahead of the true one: z_t - z_y.

    Args:
      logits: `[B, K]`.
      target: labels and target classes, int `[B]` each.

    Returns:
      `[B]`.
    """
    of_label, of_target = (at_class(logits, class_mask(part, logits.shape[-1])) for part in target)
    return of_target - of_label
