"""An ensemble of attacks, run in stages on what the earlier stages left standing."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import parallel
from robustjax.attacks import iteration
from robustjax.attacks.apgd import apgd, apgd_targeted
from robustjax.attacks.ensemble_state import State
from robustjax.attacks.fab import fab_targeted
from robustjax.attacks.network import logits_model
from robustjax.attacks.result import AttackResult
from robustjax.attacks.square import square
from robustjax.attacks.threat_model import ThreatModel

# The settings of AutoAttack's authors; the draws are of a random network, for each gradient.
STEPS, QUERIES, TARGETS, SAMPLES = 100, 5000, 9, 20


class Stage(NamedTuple):
    """One attack, or one target of a targeted attack.

    A targeted attack is a stage per target, so that what one target has broken makes room in the
    batches of the next.

    Attributes:
      attack: the attack's name; stages of one name follow each other.
      number: of the attack; its draws differ from those of the others.
      run: called as `run(keys, logits_fn, images, labels, threat)`.
    """

    attack: str
    number: int
    run: Callable[..., AttackResult]


def standard_stages(num_classes: int) -> tuple[Stage, ...]:
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square.

    Args:
      num_classes: targeted attacks aim at the nine likeliest wrong ones; below 4 APGD-T ascends the
        difference of logits, because the targeted DLR loss is not defined.
    """
    targets = range(min(TARGETS, num_classes - 1))
    loss = "dlr" if num_classes >= 4 else "margin"
    towards = {"num_targets": 1, "steps": STEPS}
    return (
        Stage("apgd-ce", 0, functools.partial(apgd, steps=STEPS, loss="ce")),
        *(
            Stage(
                "apgd-t",
                1,
                functools.partial(apgd_targeted, first_target=target, loss=loss, **towards),
            )
            for target in targets
        ),
        *(
            Stage("fab-t", 2, functools.partial(fab_targeted, first_target=target, **towards))
            for target in targets
        ),
        Stage("square", 3, functools.partial(square, queries=QUERIES)),
    )


def rand_stages() -> tuple[Stage, ...]:
    """APGD-CE and APGD-DLR on the mean of 20 gradients, for networks with randomness."""
    options = {"steps": STEPS, "samples": SAMPLES}
    return (
        Stage("apgd-ce", 0, functools.partial(apgd, loss="ce", **options)),
        Stage("apgd-dlr", 1, functools.partial(apgd, loss="dlr", **options)),
    )


@dataclasses.dataclass(frozen=True)
class Batches:
    """Examples in batches of one shape; the last one is filled up with its last example.

    Attributes:
      images: float [N, H, W, C].
      labels: int [N].
      size: of a batch.
      devices: share a batch; none: the default one.
    """

    images: np.ndarray
    labels: np.ndarray
    size: int
    devices: tuple[jax.Device, ...] = ()

    def of(self, positions: np.ndarray) -> list[np.ndarray]:
        """The positions in groups of the batch's size at most."""
        return [
            positions[first : first + self.size] for first in range(0, len(positions), self.size)
        ]

    def filled(self, positions: np.ndarray) -> np.ndarray:
        """One group of positions as `size` of them."""
        missing = self.size - len(positions)
        return np.concatenate([positions, np.repeat(positions[-1:], missing)])

    def place(self, *arrays: Any) -> tuple[jax.Array, ...]:
        """Arrays of one batch on the devices."""
        return parallel.share_rows(tuple(jnp.asarray(array) for array in arrays), self.devices)

    def logits(self, logits_fn: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
        """The logits `[N, K]` of all images `[N, ...]`, by nothing but forward passes."""
        model = logits_model(logits_fn, self.labels)
        logits = []
        for group in self.of(np.arange(len(images))):
            (batch,) = self.place(images[self.filled(group)])
            logits.append(np.asarray(iteration.apply(model, batch))[: len(group)])
        return np.concatenate(logits)


def run_stages(
    stages: Sequence[Stage],
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    batches: Batches,
    threat: ThreatModel,
    state: State,
    after_batch: Callable[[State, int], Any],
) -> None:
    """Runs what is left of the stages, and brings `state` forward in place.

    Args:
      stages: of the ensemble.
      key: one key; example i of attack a draws from the key folded with a and i.
      logits_fn: a `jax.tree_util.Partial`, lest every batch trace it.
      batches: the examples.
      threat: the norm ball and the box; epsilon a scalar or `[N]`.
      state: where the ensemble stands.
      after_batch: told the state, and how many examples of the current stage are left.
    """
    while state.stage < len(stages):
        stage = stages[state.stage]
        attack_key = jax.random.fold_in(key, stage.number)
        for group in batches.of(np.flatnonzero(state.pending)):
            began = time.monotonic()
            rows = batches.filled(group)
            keys, images, labels = batches.place(
                _example_keys(attack_key, rows), batches.images[rows], batches.labels[rows]
            )
            result = stage.run(keys, logits_fn, images, labels, _of_rows(threat, rows))
            success = np.asarray(result.success)[: len(group)]
            broken = group[success]
            state.images[broken] = np.asarray(result.images)[: len(group)][success]
            state.broken_by[broken] = stage.number
            state.pending[group] = False
            state.seconds[stage.attack] = (
                state.seconds.get(stage.attack, 0.0) + time.monotonic() - began
            )
            after_batch(state, int(state.pending.sum()))
        state.next_stage()


@jax.jit
def _example_keys(key: jax.Array, positions: jax.Array) -> jax.Array:
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)


def _of_rows(threat: ThreatModel, rows: np.ndarray) -> ThreatModel:
    if jnp.ndim(threat.epsilon) == 0:
        return threat
    return dataclasses.replace(threat, epsilon=jnp.asarray(threat.epsilon)[rows])
