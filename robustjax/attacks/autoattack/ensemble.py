"""An ensemble of attacks, run in stages on what the earlier stages left standing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import parallel, platforms
from robustjax.attacks.apgd import APGD, APGDTargeted
from robustjax.attacks.attack import Preparable
from robustjax.attacks.autoattack.state import State
from robustjax.attacks.engine import filling
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import keys_of_examples
from robustjax.attacks.engine.model import logits_model, one_draw
from robustjax.attacks.engine.refill import Waiting
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.fab import FABTargeted
from robustjax.attacks.square import Square
from robustjax.attacks.threat_model import ThreatModel
from robustjax.batching import batches_of_one_shape

# The settings of AutoAttack's authors; the draws are of a random network, for each gradient.
STEPS, QUERIES, TARGETS, SAMPLES = 100, 5000, 9, 20
# Under "l1", of APGD alone.
L1_RESTARTS, L1_TARGETS = 5, 5

# Of a CPU device: so few that their activations stay in its caches, and memory is not given back
# to the system between two steps.
ROWS_ON_CPU = 16


SecondLook = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(int [n], the positions of examples; float [n, ...], their adversarial images) -> bool [n],
whether these are inside of ball and box and misclassified, seen apart from the attack."""

_JUDGEMENT = 2**31 - 1
"""Folded into a stage's key for the draws that judge: no example has this number."""


class Stage(NamedTuple):
    """One attack.

    Attributes:
      name: of the attack.
      number: its draws differ from those of the others.
      attack: of one run, or of one target, and then told `first_target` too, int `[B]`.
      targets: how many targets every example has; 0 for an untargeted attack.
      restarts: how often every example is attacked without a target; where it is more than once,
        the attack is told `first_restart`, int `[B]`.
      random: whether the network draws random numbers, which examples that are attacked together
        share; then an image that is finished is judged by a fresh draw.
      told: what else the attack is told of the examples, arrays `[N, ...]` by name.
    """

    name: str
    number: int
    attack: Preparable
    targets: int = 0
    random: bool = False
    restarts: int = 1
    told: Mapping[str, np.ndarray] = {}

    @property
    def turns(self) -> int:
        """How often every example is attacked."""
        return max(self.targets, self.restarts)

    def options(self, turns: jax.Array) -> dict[str, jax.Array]:
        """What the attack is told of which of its turns the examples are at, int [B]."""
        if self.targets:
            return {"first_target": turns}
        return {"first_restart": turns} if self.restarts > 1 else {}


def standard_stages(num_classes: int, norm: str = "linf") -> tuple[Stage, ...]:
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square.

    Args:
      num_classes: targeted attacks aim at the nine likeliest wrong ones; below 4 APGD-T ascends the
        difference of logits, because the targeted DLR loss is not defined.
      norm: of the ball. Under "l1" APGD begins in larger balls, on the cross-entropy five times,
        and has five targets.
    """
    sparse = norm == "l1"
    targets = min(TARGETS, num_classes - 1)
    apgd_targets = min(L1_TARGETS, targets) if sparse else targets
    restarts = L1_RESTARTS if sparse else 1
    loss = "dlr" if num_classes >= 4 else "margin"

    return (
        Stage("apgd-ce", 0, APGD(STEPS, loss="ce"), restarts=restarts),
        Stage("apgd-t", 1, APGDTargeted(STEPS, num_targets=1, loss=loss), apgd_targets),
        Stage("fab-t", 2, FABTargeted(STEPS, num_targets=1), targets),
        Stage("square", 3, Square(QUERIES)),
    )


def rand_stages() -> tuple[Stage, ...]:
    """APGD-CE and APGD-DLR on the mean of 20 gradients, for networks with randomness.

    Under "l1" all steps are taken in the ball itself, as in the authors' code.
    """
    return tuple(
        Stage(
            f"apgd-{loss}",
            number,
            APGD(STEPS, loss=loss, samples=SAMPLES, multi_epsilon=False),
            random=True,
        )
        for number, loss in enumerate(("ce", "dlr"))
    )


@dataclasses.dataclass(frozen=True)
class Batches:
    """Examples, of which so many are computed together.

    Attributes:
      images: float [N, H, W, C].
      labels: int [N].
      size: of a batch.
      devices: share a batch; none: the default one.
      at_once: how many batches are computed at the same time, on a CPU.
    """

    images: np.ndarray
    labels: np.ndarray
    size: int
    devices: tuple[jax.Device, ...] = ()
    at_once: int = 1

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        devices: Sequence[jax.Device] = (),
    ) -> Batches:
        """Batches that suit the platform.

        Args:
          images: float [N, H, W, C], one or more.
          labels: int [N].
          batch_size: how many examples are computed at a time at most. A CPU has a small batch for
            each device, or, with one device, for each core.
          devices: share a batch, whose size becomes a multiple of theirs; none: the default one.
        """
        number = max(len(devices), 1)
        size, at_once = min(batch_size, len(images)), 1
        if platforms.of_process() == "cpu":
            at_once = 1 if devices else min(_usable_cores(), size)
            share = min(batch_size // at_once, -(-len(images) // at_once))
            rounds = -(-share // (ROWS_ON_CPU * number))
            size = -(-share // rounds)
        return cls(images, labels, -(-size // number) * number, tuple(devices), at_once)

    def place(self, *arrays: Any) -> tuple[jax.Array, ...]:
        """Arrays of one batch on the devices."""
        return parallel.share_rows(tuple(jnp.asarray(array) for array in arrays), self.devices)

    def logits(self, logits_fn: Callable[[jax.Array], jax.Array], images: np.ndarray) -> np.ndarray:
        """The logits `[N, K]` of all images `[N, ...]`, by nothing but forward passes."""
        model = logits_model(logits_fn, self.labels)
        logits = []
        for batch in batches_of_one_shape(len(images), self.size):
            (shown,) = self.place(images[batch.rows])
            logits.append(batch.without_filling(engine.apply(model, shown)))
        return np.concatenate(logits)


def run_stages(
    stages: Sequence[Stage],
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    batches: Batches,
    threat: ThreatModel,
    state: State,
    after_some: Callable[[State], Any],
    holds: SecondLook,
) -> None:
    """Runs what is left of the stages, and brings `state` forward in place.

    The targets of an attack, or its restarts, are faced in turn: all examples the first one, then
    all that still stand the second one, and so on. An example may be at several of them at a time,
    lest rows stay empty; that changes no verdict and no image. What an attack says that it has
    broken is looked at again, and goes on where that does not hold.

    Args:
      stages: of the ensemble.
      key: one key; example i of attack a draws from the key folded with a and i.
      logits_fn: a `jax.tree_util.Partial`, lest every batch trace it.
      batches: the examples.
      threat: the norm ball and the box; epsilon a scalar or `[N]`.
      state: where the ensemble stands.
      after_some: told the state whenever some turns are over.
      holds: the second look.
    """
    for number, stage in enumerate(stages):
        if number < state.stage:
            continue
        if number > state.stage:
            state.begin_stage(number, stage.turns)
        attack_key = jax.random.fold_in(key, stage.number)

        def prepare(turns, stage=stage, attack_key=attack_key):
            of_example, positions = np.divmod(turns, len(batches.labels))
            keys, images, labels, of_example = batches.place(
                keys_of_examples(attack_key, positions),
                batches.images[positions],
                batches.labels[positions],
                of_example.astype(np.int32),
            )
            rows = batches.place(*(array[positions] for array in stage.told.values()))
            options = stage.options(of_example) | dict(zip(stage.told, rows, strict=True))
            return stage.attack.prepare(
                keys, logits_fn, images, labels, of_rows(threat, positions), **options
            )

        began = time.monotonic()
        schedule = _schedule(prepare, Waiting(state.pending), batches, stage.random)
        if stage.random:
            schedule = _judged_anew(schedule, attack_key, logits_fn, batches)
        with contextlib.closing(schedule):
            for settled in schedule:
                positions = settled.turns % len(batches.labels)
                broken = np.flatnonzero(settled.success)
                confirmed = np.zeros(len(settled.turns), bool)
                if len(broken):
                    confirmed[broken] = holds(positions[broken], settled.images[broken])
                    state.doubted[positions[settled.success & ~confirmed]] = True
                seen = zip(settled.turns, confirmed, settled.images, strict=True)
                for turn, success, image in seen:
                    target, position = divmod(turn, len(batches.labels))
                    if success:
                        state.broken(target, position, stage.number, image)
                    else:
                        state.withstood(target, position)
                now = time.monotonic()
                state.seconds[stage.name] = state.seconds.get(stage.name, 0.0) + now - began
                began = now
                after_some(state)


def _judged_anew(
    schedule: Generator[filling.Settled],
    key: jax.Array,
    logits_fn: Callable[[jax.Array, jax.Array], jax.Array],
    batches: Batches,
) -> Generator[filling.Settled]:
    """What is settled, success being that a fresh draw of a random network misclassifies the image.

    One lucky draw among the hundreds of an attack says nothing. An attack of this ensemble has no
    targets, so that a turn is an example.
    """
    with contextlib.closing(schedule):
        for settled in schedule:
            draw = jax.random.fold_in(jax.random.fold_in(key, _JUDGEMENT), settled.turns[0])
            again = dataclasses.replace(batches, labels=batches.labels[settled.turns])
            logits = again.logits(one_draw(logits_fn, draw), settled.images)
            yield settled._replace(success=misclassified(logits, again.labels))


def _schedule(
    prepare: filling.Prepare, waiting: Waiting, batches: Batches, random: bool
) -> Generator[filling.Settled]:
    """On accelerators, and where examples share draws, whole batches; else at_once."""
    if random or platforms.of_process() != "cpu":
        return filling.in_batches(prepare, waiting, batches.size)
    return filling.refilled(prepare, waiting, batches.size, batches.at_once)


def _usable_cores() -> int:
    # Not every system can tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def of_rows(threat: ThreatModel, rows: np.ndarray) -> ThreatModel:
    """The balls of some examples, where each has a radius of its own."""
    if jnp.ndim(threat.epsilon) == 0:
        return threat
    return dataclasses.replace(threat, epsilon=jnp.asarray(threat.epsilon)[rows])
