"""The arguments of an attack that begins with a look at the clean images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from robustjax.attacks import _checks as checks
from robustjax.attacks.network import clean_logits, one_draw
from robustjax.attacks.random_keys import checked_key, first_key
from robustjax.attacks.rows import misclassified, predicted
from robustjax.attacks.targets import checked_first_target, runners_up
from robustjax.attacks.threat_model import ThreatModel


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
    images: jax.Array,
    labels: jax.Array,
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
