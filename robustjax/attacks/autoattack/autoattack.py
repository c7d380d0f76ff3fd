"""AutoAttack: parameter-free attacks, each on the examples that withstood those before it."""

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
from robustjax.arguments import checked_count, kind, refusal, require_choice, shown
from robustjax.arguments.arrays import known
from robustjax.attacks import _checks as checks
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.autoattack import state as ensemble_state
from robustjax.attacks.autoattack import warnings as inspection
from robustjax.attacks.autoattack.ensemble import Batches, Stage
from robustjax.attacks.autoattack.second_look import holds
from robustjax.attacks.autoattack.state import State
from robustjax.attacks.engine import captured_arrays
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import checked_key
from robustjax.attacks.engine.model import one_draw
from robustjax.attacks.engine.rows import predicted
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.digest import digest, digest_of_program
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.shapes import CleanImages, ImageClasses

VERSIONS = ("standard", "rand")

Progress = Callable[[str, int, int, float], None]
"""Told the attack, how many of its examples, each once per target, are done, of how many, and the
accuracy so far."""


@dataclasses.dataclass(frozen=True)
class AutoAttackReport:
    """What AutoAttack found.

    Attributes:
      robust: bool [N], correct on the clean image and under every attack.
      robust_accuracy: accuracy after each attack, in [0, 1], in the order of the attacks: "clean",
        "apgd-ce", "apgd-t", "fab-t" and "square"; of version "rand" "clean", "apgd-ce" and
        "apgd-dlr".
      images: float [N, H, W, C], misclassified where `robust` is False, else the clean ones.
      warnings: sentences about what may make the figure misleading.
      seconds: time of each attack, compilation included.
    """

    robust: np.ndarray
    robust_accuracy: dict[str, float]
    images: np.ndarray
    warnings: tuple[str, ...]
    seconds: dict[str, float]


@dataclasses.dataclass(frozen=True)
class AutoAttack:
    """`autoattack` as a value, which gives an `AttackResult` like any other attack.

    Attributes:
      version: "standard" or "rand".
    """

    version: str = "standard"

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[..., jax.Array],
        images: CleanImages,
        labels: ImageClasses,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images outside of jit; the gradients are not counted."""
        report = autoattack(key, logits_fn, images, labels, threat, version=self.version)
        none = jnp.zeros(len(report.robust), jnp.int32)
        return AttackResult(jnp.asarray(report.images), jnp.asarray(~report.robust), none)


_INSIDE = (
    "autoattack was called inside jit or another transformation, where survivors cannot be chosen; "
    "call it from plain Python"
)


def autoattack(
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    images: CleanImages,
    labels: ImageClasses,
    threat: ThreatModel,
    *,
    version: str = "standard",
    batch_size: int = 256,
    state_path: str | os.PathLike | None = None,
    progress: Progress | None = None,
    devices: Sequence[jax.Device] = (),
) -> AutoAttackReport:
    """Standard AutoAttack: APGD-CE, targeted APGD-DLR, targeted FAB and Square, in this order.

    Every attack begins at the clean images, and is run only on those that withstood all attacks
    before it. Images that the network misclassifies as they are count as broken from the outset.
    Every adversarial image is looked at again, apart from the attack: inside the ball, inside the
    box, misclassified. An example whose image is not goes on to the next target or attack. If
    nothing else breaks it, it counts as robust, and a warning says so.

    With version "rand" one draw of the network decides the clean accuracy, and after each attack a
    fresh one whether the finished image is misclassified, as in the authors' code: so with epsilon
    0 a network that is right in a share a of its draws is robust in a share a³.

    The settings are the authors': 100 steps of every gradient attack, 9 targets, 5000 queries, one
    start. Under "l1" APGD begins in balls of 3 and 2 epsilon, with five starts on the
    cross-entropy, and has 5 targets. With fewer than 10 classes there are fewer targets. With fewer
    than 4 the targeted DLR loss is not defined, and APGD-T ascends the difference of the two
    logits. A warning says so.

    On a CPU the standard attacks run in small batches, one for each core, in which an example whose
    verdict is known makes room for the next one. On an accelerator, and with version "rand", where
    examples share draws, a batch is attacked to its end.

    All batches have one shape, and the network's weights are arguments of what is compiled: every
    attack is compiled once, and not again for a second network of the same shapes.

    Args:
      key: one random key. What is drawn for an example depends on the key and its position alone.
      logits_fn: maps images `[B, H, W, C]` to logits `[B, K]`; row i must depend on image i alone.
        With version "rand" it is called as `logits_fn(images, key)`.
      images: clean images, floating, `[N, H, W, C]`, inside the box.
      labels: int `[N]` in [0, K).
      threat: the norm ball, of finite epsilon (a scalar or `[N]`), and a box.
      version: "standard"; or "rand" for networks with randomness: APGD-CE and APGD-DLR, every
        gradient the mean of 20 draws.
      batch_size: how many examples are computed at a time at most; a last, smaller batch is filled
        up. A CPU computes up to 16 for each device, or for each core.
      state_path: a file that keeps what is found, written every half minute. If it holds an
        evaluation with the same arguments that was interrupted, that one goes on, and ends with the
        verdicts that it would have ended with. It belongs to the network's program and weights,
        the images and the settings; of anything else it is refused.
      progress: called whenever verdicts are known.
      devices: share every batch, whose size they must divide; none: the default one.

    Returns:
      An `AutoAttackReport`.

    Raises:
      ValueError: an argument is not accepted; `state_path` holds another evaluation; or the call is
        inside jit, which cannot choose survivors. The message says which.

    Example:
      >>> from robustjax.attacks import ThreatModel
      >>> images, labels = jnp.full((1, 1, 2, 1), 0.55), jnp.array([0])
      >>> threat = ThreatModel("linf", epsilon=0.1)
      >>> network = lambda x: (x.reshape(len(x), -1) - 0.5) @ jnp.array([[1.0, -1.0], [0.0, 0.0]])
      >>> report = autoattack(jax.random.key(0), network, images, labels, threat)
      >>> print(report.robust_accuracy["apgd-ce"])
      0.0

    Source: Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
      Parameter-free Attacks (Croce & Hein, 2020), section 6; order and bookkeeping as in the
      authors' code. The random numbers are others, so a figure differs from theirs as two of their
      seeds do. Under "l1" Mind the Box (Croce & Hein, 2021), with the settings of the authors'
      code.
    """
    require_choice("version", version, VERSIONS)
    random = version == "rand"
    checks.checked_logits_fn(logits_fn)
    key, images, labels, threat = _checked(key, images, labels, threat)
    if not random and images.ndim != 4:
        raise refusal("images", kind(images), "[N, H, W, C]: Square moves windows of pixels")
    batch_size = checked_count("batch_size", batch_size, 1)
    batches = Batches.of(images, labels, batch_size, devices)
    like = jnp.zeros((batches.size, *images.shape[1:]), images.dtype)
    network = _lifted(logits_fn, like, key, random)
    num_classes = _num_classes(network, like, *([key] if random else []))
    if random and num_classes < 3:
        raise UserError(
            f"version='rand': the network has {num_classes} classes; accepted are 3 or more, for "
            "which its DLR loss is defined"
        )
    network = parallel.copy_to_all(network, devices)
    judge = one_draw(network, key) if random else network
    logits = batches.logits(judge, images)
    wrong = predicted(logits) != labels
    stages = (
        ensemble.rand_stages() if random else ensemble.standard_stages(num_classes, threat.norm)
    )

    state, belongs_to = None, ""
    if state_path is not None:
        if inspection.calls_the_host(network, like, *([key] if random else [])):
            raise UserError(
                "state_path is given, and the network calls back to the host: from its program and "
                "weights it cannot be told from another one, so that its state cannot be kept"
            )
        state_path = Path(state_path)
        belongs_to = digest(
            digest_of_program(network, like, *([key] if random else [])),
            *(version, batch_size, threat.norm, _numbers(key, threat), images, labels, wrong),
        )
        state = ensemble_state.load(state_path, images, belongs_to)
    state = state or State.begin(images, wrong)
    # Looked for as the network was given, so that one with a state of its own shows it.
    fixed = one_draw(logits_fn, key) if random else logits_fn
    warnings = inspection.inspect(fixed, images, labels, logits, random=random)
    if random:
        warnings += inspection.is_deterministic(logits_fn, images, key)
    else:
        warnings += inspection.few_classes(num_classes, ensemble.TARGETS)
    watch = _Watch(stages, state_path, belongs_to, progress)
    look = functools.partial(holds, None if random else judge, batches, threat)
    ensemble.run_stages(stages, key, network, batches, threat, state, watch, look)
    watch.save(state)

    robust_accuracy = _accuracy_after_each(stages, state)
    return AutoAttackReport(
        robust=state.robust,
        robust_accuracy=robust_accuracy,
        images=state.images,
        warnings=(
            *warnings,
            *inspection.square_alone(robust_accuracy),
            *_about(int((state.doubted & state.robust).sum())),
        ),
        seconds={stage.name: state.seconds.get(stage.name, 0.0) for stage in stages},
    )


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


def _num_classes(network: Callable[..., jax.Array], *arguments: jax.Array) -> int:
    """How many logits there are; refuses those that no gradient attack can do with."""

    def logits(images: jax.Array, *key: jax.Array) -> jax.Array:
        return checks.checked_logits(network(images, *key), len(images), None, differentiable=True)

    found = jax.eval_shape(logits, *arguments).shape[1]
    if found < 2:
        raise UserError(f"logits_fn gives {found} class: accepted are 2 or more")
    return found


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


def _numbers(key: jax.Array, threat: ThreatModel) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in (jax.random.key_data(key), *jax.tree.leaves(threat))]


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
