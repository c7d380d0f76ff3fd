"""A network and its examples under attacks in stages: from a call's arguments to what was found."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import parallel
from robustjax.arguments import checked_count, refusal, shown
from robustjax.arguments.arrays import known
from robustjax.attacks import _checks as checks
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.autoattack import state as ensemble_state
from robustjax.attacks.autoattack import warnings as inspection
from robustjax.attacks.autoattack.ensemble import Batches, Stage
from robustjax.attacks.autoattack.report import AutoAttackReport
from robustjax.attacks.autoattack.second_look import holds
from robustjax.attacks.autoattack.state import State
from robustjax.attacks.engine import captured_arrays
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key
from robustjax.attacks.engine.model import one_draw
from robustjax.attacks.engine.rows import predicted
from robustjax.attacks.threat_model import ThreatModel
from robustjax.digest import digest, digest_of_program
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.shapes import CleanImages, ImageClasses

Progress = Callable[[str, int, int, float], None]
"""Told the attack, how many of its examples, each once per target, are done, of how many, and the
accuracy so far."""

_INSIDE = (
    "autoattack was called inside jit or another transformation, where survivors cannot be chosen; "
    "call it from plain Python"
)


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A network and the examples that it is attacked on.

    Attributes:
      key: of the draws.
      network: as a pytree, on all devices; called with a key too if it is random.
      judge: the network as it is judged: itself, or one draw of it.
      batches: the examples.
      threat: the ball, of finite epsilon, and the box.
      logits: float [N, K], of the clean images.
      rows: of the batches that the verdicts are of; 1 if any will do.
      random: whether the network draws random numbers.
    """

    key: jax.Array
    network: Callable[..., jax.Array]
    judge: Callable[[jax.Array], jax.Array]
    batches: Batches
    threat: ThreatModel
    logits: np.ndarray
    rows: int
    random: bool

    @classmethod
    def of(
        cls,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
        *,
        batch_size: int,
        devices: Sequence[jax.Device] = (),
        random: bool = False,
        differentiable: bool = True,
    ) -> Attacked:
        """Checks the arguments of a call, those of `autoattack`, and looks at the clean images.

        Args:
          key: as for `autoattack`, as the next four are.
          logits_fn: likewise.
          images: likewise.
          labels: likewise.
          threat: likewise.
          batch_size: likewise, as are the devices.
          devices: likewise.
          random: whether the network is called with a key.
          differentiable: whether an attack needs gradients.

        Raises:
          ValueError: an argument is not accepted, or the call is inside jit.
        """
        checks.checked_logits_fn(logits_fn)
        key, images, labels, threat = _checked(key, images, labels, threat)
        batch_size = checked_count("batch_size", batch_size, 1)
        batches = Batches.of(images, labels, batch_size, devices)
        like = jnp.zeros((batches.size, *images.shape[1:]), images.dtype)
        network = _lifted(logits_fn, like, key, random)
        _require_logits(network, differentiable, like, *([key] if random else []))
        network = parallel.copy_to_all(network, devices)
        judge = one_draw(network, key) if random else network
        logits = batches.logits(judge, images)
        # What is drawn belongs to a batch, and with it the verdict.
        rows = 1 if engine.is_array_partial(logits_fn) and not random else batches.size
        return cls(key, network, judge, batches, threat, logits, rows, random)

    @property
    def num_classes(self) -> int:
        """How many logits there are."""
        return self.logits.shape[1]

    def calls_the_host(self) -> bool:
        """Whether the network's program is not all there is of it."""
        return inspection.calls_the_host(self.network, *self._example())

    def run(
        self,
        stages: Sequence[Stage],
        settings: str,
        state_path: str | os.PathLike | None = None,
        progress: Progress | None = None,
    ) -> AutoAttackReport:
        """Runs the stages, each on what still stands.

        Args:
          stages: one or more.
          settings: tells them from others.
          state_path: as for `autoattack`.
          progress: as for `autoattack`.

        Raises:
          ValueError: `state_path` holds another evaluation, or cannot be kept.
        """
        images = self.batches.images
        wrong = predicted(self.logits) != self.batches.labels
        state, belongs_to = None, ""
        if state_path is not None:
            if self.calls_the_host():
                raise UserError(
                    "state_path is given, and the network calls back to the host: from its program "
                    "and weights it cannot be told from another one, so that its state cannot be "
                    "kept"
                )
            state_path = Path(state_path)
            belongs_to = digest(
                digest_of_program(self.network, *self._example()),
                *(settings, self.threat.norm, self._numbers()),
                *(images, self.batches.labels, wrong),
            )
            state = ensemble_state.load(state_path, images, belongs_to)
        state = state or State.begin(images, wrong)
        watch = _Watch(stages, state_path, belongs_to, progress)
        look = functools.partial(
            holds, None if self.random else self.judge, self.batches, self.threat
        )
        ensemble.run_stages(
            stages, self.key, self.network, self.batches, self.threat, state, watch, look
        )
        watch.save(state)
        if wrong.all():  # Nothing was to be done, and nobody has been told of it.
            watch.tell(state)
        return AutoAttackReport(
            robust=state.robust,
            robust_accuracy=_accuracy_after_each(stages, state),
            images=state.images,
            warnings=_about(int((state.doubted & state.robust).sum())),
            seconds={stage.name: state.seconds.get(stage.name, 0.0) for stage in stages},
        )

    def _example(self) -> tuple[jax.Array, ...]:
        images = self.batches.images
        like = jnp.zeros((self.rows, *images.shape[1:]), images.dtype)
        return (like, self.key) if self.random else (like,)

    def _numbers(self) -> list[np.ndarray]:
        parts = (jax.random.key_data(self.key), *jax.tree.leaves(self.threat))
        return [np.asarray(leaf) for leaf in parts]


def _checked(
    key: jax.Array,
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
) -> tuple[jax.Array, np.ndarray, np.ndarray, ThreatModel]:
    """The arguments on the host, where survivors are chosen."""
    images = checks.checked_images(images)
    if not len(images):
        raise UserError("images holds no image: accepted are one or more")
    labels = checks.checked_hard_labels(labels, len(images))
    threat = checks.checked_threat(threat, len(images), images.dtype)
    key = checked_key(key, len(images))
    if key.ndim:
        raise UserError("key holds one key per example: accepted is a single one")
    parts = (images, labels, jax.random.key_data(key), *jax.tree.leaves(threat))
    if any(known(part) is None for part in parts):
        raise UserError(_INSIDE)
    if not checks.has_finite_epsilon(threat):
        raise refusal("threat.epsilon", shown(threat.epsilon), "finite numbers")
    if threat.bounds is None:
        raise refusal("threat.bounds", "None", "boxes, such as (0, 1)")
    if any(np.ndim(bound) for bound in threat.bounds):
        raise UserError("threat.bounds holds one box per example: accepted is one for all")
    checks.check_inside_box(images, threat)
    return key, np.asarray(images), np.asarray(labels), threat


def _require_logits(
    network: Callable[..., jax.Array], differentiable: bool, *arguments: jax.Array
) -> None:
    """Refuses logits that no attack, or none by gradients, can do with."""

    def logits(images: jax.Array, *key: jax.Array) -> jax.Array:
        found = network(images, *key)
        return checks.checked_logits(found, len(images), None, differentiable=differentiable)

    found = jax.eval_shape(logits, *arguments).shape[1]
    if found < 2:
        raise UserError(f"logits_fn gives {found} class: accepted are 2 or more")


def _lifted(
    logits_fn: Callable[..., jax.Array], images: jax.Array, key: jax.Array, random: bool
) -> Callable[..., jax.Array]:
    """The network as a pytree, so that it is traced once for all batches and attacks.

    One with a gradient of its own is called as it is.
    """
    if engine.is_array_partial(logits_fn):
        return logits_fn
    arguments = (images, key) if random else (images,)
    if captured_arrays.has_own_gradient(logits_fn, *arguments):
        return jax.tree_util.Partial(logits_fn)
    lifted = captured_arrays.lift(logits_fn, *arguments)
    if lifted is None:
        raise UserError(_INSIDE)
    return lifted


class _Watch:
    """Saves the state now and then, and tells how far the evaluation is."""

    def __init__(
        self,
        stages: Sequence[Stage],
        path: Path | None,
        belongs_to: str,
        progress: Progress | None,
    ):
        self.stages = stages
        self.path = path
        self.belongs_to = belongs_to
        self.progress = progress
        self.saved = time.monotonic()

    def __call__(self, state: State) -> None:
        if time.monotonic() - self.saved >= ensemble_state.SECONDS_BETWEEN_SAVES:
            self.save(state)
        self.tell(state)

    def tell(self, state: State) -> None:
        if self.progress is not None:
            stage = self.stages[state.stage]
            examples = int((state.robust | (state.broken_by == stage.number)).sum())
            turns = len(state.pending) * examples
            done = turns - int(state.pending.sum())
            self.progress(stage.name, done, turns, float(state.robust.mean()))

    def save(self, state: State) -> None:
        if self.path is not None:
            ensemble_state.save(state, self.path, self.belongs_to)
            self.saved = time.monotonic()


def _accuracy_after_each(stages: Sequence[Stage], state: State) -> dict[str, float]:
    standing = state.broken_by != ensemble_state.FROM_THE_OUTSET
    accuracy = {"clean": float(standing.mean())}
    for stage in stages:
        standing = standing & (state.broken_by != stage.number)
        accuracy[stage.name] = float(standing.mean())
    return accuracy


def _about(doubted: int) -> tuple[str, ...]:
    if not doubted:
        return ()
    return (
        f"{doubted} adversarial images did not stand a second look (outside of the ball "
        "or the box, or classified correctly); their examples count as robust",
    )
