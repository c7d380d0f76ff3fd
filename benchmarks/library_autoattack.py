"""The library's standard AutoAttack, one attack at a time, so that another side can take turns."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.autoattack_work import Budget
from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.autoattack.second_look import holds
from robustjax.attacks.autoattack.state import State
from robustjax.attacks.engine.rows import predicted


class LibraryAutoAttack:
    """What `attacks.autoattack` does with its default version, stopping after every attack.

    Args:
      logits_fn: a `jax.tree_util.Partial`, as `evaluation` makes it.
      images: clean, float32 [N, H, W, C].
      labels: int [N].
      threat: the ball and the box.
      budget: steps and queries.
      batch_size: how many survivors are computed together; on a CPU the library takes fewer.
      seed: of the random key.
    """

    def __init__(
        self,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: np.ndarray,
        labels: np.ndarray,
        threat: ThreatModel,
        *,
        budget: Budget,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self._logits_fn, self._threat, self._key = logits_fn, threat, jax.random.key(seed)
        self._batches = ensemble.Batches.of(images, labels, batch_size)
        self.logits = self._batches.logits(logits_fn, images)
        self._stages = stages(self.logits.shape[1], budget)
        self._state = State.begin(images, predicted(self.logits) != labels)

    @property
    def robust(self) -> np.ndarray:
        """Bool [N], what nothing has broken so far."""
        return self._state.robust.copy()

    def run(self, name: str) -> None:
        """Runs the attack that comes next; when it returns, the device is done."""
        upto = [stage.name for stage in self._stages].index(name) + 1
        ensemble.run_stages(
            self._stages[:upto],
            self._key,
            self._logits_fn,
            self._batches,
            self._threat,
            self._state,
            lambda state: None,
            functools.partial(holds, self._logits_fn, self._batches, self._threat),
        )


def stages(num_classes: int, budget: Budget) -> tuple[ensemble.Stage, ...]:
    """The standard stages with another number of steps and queries; the default changes nothing."""

    def within(stage: ensemble.Stage) -> ensemble.Stage:
        own = {"queries": budget.queries} if stage.name == "square" else {"steps": budget.steps}
        return stage._replace(attack=dataclasses.replace(stage.attack, **own))

    return tuple(within(stage) for stage in ensemble.standard_stages(num_classes))


class CompileSeconds:
    """A context; `total` is the time in which something was lowered or compiled, tracing left out.

    Programs that are compiled at the same time count once.
    """

    _EVENTS = (
        "/jax/core/compile/jaxpr_to_mlir_module_duration",
        "/jax/core/compile/backend_compile_duration",
    )

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._listening = False

    def __enter__(self) -> "CompileSeconds":
        self._listening = True
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        # JAX has no public way to take one listener away.
        self._listening = False

    @property
    def total(self) -> float:
        """Seconds."""
        total, covered = 0.0, -math.inf
        for start, end in sorted(self._spans):
            total += max(end - max(start, covered), 0.0)
            covered = max(covered, end)
        return total

    def _heard(self, event: str, seconds: float, **_: object) -> None:
        if self._listening and event in self._EVENTS:
            end = time.perf_counter()
            self._spans.append((end - seconds, end))
