"""One of AutoAttack's attacks by itself: each turn, a target or a restart, on what still stands."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from robustjax.attacks._nearest_classes import nearest_first
from robustjax.attacks.apgd import APGD, APGDTargeted
from robustjax.attacks.autoattack.ensemble import Stage, of_rows
from robustjax.attacks.autoattack.report import AutoAttackReport
from robustjax.attacks.autoattack.staged import Attacked, Progress
from robustjax.attacks.fab import FABTargeted
from robustjax.attacks.square import Square
from robustjax.attacks.targets import ranked_inputs
from robustjax.attacks.threat_model import ThreatModel
from robustjax.batching import batches_of_one_shape
from robustjax.shapes import CleanImages, ImageClasses

_NUMBER = 0
"""Of the only stage."""


def stage_of(name: str, attack: Any) -> Stage | None:
    """An attack as a stage, whose turns are its targets or restarts; None if it cannot be cut so.

    Args:
      name: of the attack.
      attack: any, its settings completed.
    """
    if isinstance(attack, APGDTargeted):
        one = dataclasses.replace(attack, num_targets=1)
        return Stage(name, _NUMBER, one, targets=attack.num_targets)
    if isinstance(attack, FABTargeted) and attack.restarts == 1:
        one_of = dataclasses.replace(attack, num_targets=1)
        return Stage(name, _NUMBER, one_of, targets=attack.num_targets)
    if isinstance(attack, APGD) and attack.targets is None and not attack.samples:
        start = dataclasses.replace(attack, restarts=1)
        return Stage(name, _NUMBER, start, restarts=attack.restarts)
    if isinstance(attack, Square) and attack.restarts == 1:
        return Stage(name, _NUMBER, attack)
    return None


def draws_of(key: jax.Array) -> jax.Array:
    """The key from which a stage of `stage_of` draws, of the key that it is given."""
    return jax.random.fold_in(key, _NUMBER)


def attack_alone(
    stage: Stage,
    key: jax.Array,
    logits_fn: Callable[[jax.Array], jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    batch_size: int = 256,
    state_path: str | os.PathLike | None = None,
    progress: Progress | None = None,
    devices: Sequence[jax.Device] = (),
) -> AutoAttackReport:
    """Runs one attack as AutoAttack runs its own: nothing is computed of what has fallen.

    The verdicts are those of the attack called with all images and the key `draws_of(key)`, but
    for images that do not stand a second look.

    Args:
      stage: of `stage_of`.
      key: as for `autoattack`, as all others are.
      logits_fn: not of a random network.
      images: clean.
      labels: int [N].
      threat: ball and box.
      batch_size: at most.
      state_path: not kept where the network calls back to the host.
      progress: told after some turns.
      devices: share every batch.

    Raises:
      ValueError: as `autoattack`.
    """
    attacked = Attacked.of(
        key,
        logits_fn,
        images,
        labels,
        threat,
        batch_size=batch_size,
        devices=devices,
        differentiable=not isinstance(stage.attack, Square),
    )
    if state_path is not None and attacked.calls_the_host():
        state_path = None
    settings = repr(stage)
    if isinstance(stage.attack, APGDTargeted) and stage.attack.order == "nearest":
        stage = stage._replace(told={"ranked": _nearest_first(attacked)})
    return attacked.run((stage,), settings, state_path, progress)


def _nearest_first(attacked: Attacked) -> np.ndarray:
    """The targets of all examples, int32 [N, K - 1], which cost gradients to find."""
    batches, found = attacked.batches, []
    for batch in batches_of_one_shape(len(batches.images), batches.size):
        images, labels = batches.place(batches.images[batch.rows], batches.labels[batch.rows])
        threat = of_rows(attacked.threat, batch.rows)
        inputs = ranked_inputs(attacked.key, attacked.network, images, labels, threat)
        found.append(batch.without_filling(nearest_first(attacked.network, inputs)))
    return np.concatenate(found)
