"""Scores a network under one attack, batch after batch, or under AutoAttack's ensemble."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data, parallel
from robustjax.arguments import checked_count, refusal, shown
from robustjax.attacks.autoattack.alone import attack_alone, draws_of, stage_of
from robustjax.attacks.autoattack.ensemble import Stage
from robustjax.attacks.autoattack.state import StateError
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.attacks.engine.keys import keys_of_examples
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.registry import as_result, is_users
from robustjax.batching import batches_of_one_shape
from robustjax.errors import UserError
from robustjax.evaluation.broken import BrokenExamples, FirstBroken
from robustjax.evaluation.given_images import fitting_images
from robustjax.evaluation.spec import ENSEMBLES, IMAGES, STEPPED, AttackSpec, require_possible
from robustjax.evaluation.subject import LogitsFn, check_subject, num_classes_of
from robustjax.runs.resumable import Unfinished
from robustjax.step_size import ReachWarning

_MOST_BYTES = 2**32
"""Of images as float32; a larger set is attacked batch by batch."""

Progress = Callable[[str, int, int, float], None]
"""Told the attack, how many examples are done, of how many, and the accuracy so far; of AutoAttack
and the attacks that it is made of, an example counts once for each target or restart."""


class AttackScore(NamedTuple):
    """How a network did under one attack.

    Attributes:
      correct: bool [N], classified correctly under the attack (and clean).
      settings: the attack's exact settings, JSON.
      images: float32 [N, H, W, C], the adversarial images, the clean ones where there are none;
        None if they were not asked for.
      seconds: how long it took, with compilation; of what was interrupted, since then. None: not
        measured.
      broken: a few examples that the attack breaks; None where it breaks none.
    """

    correct: np.ndarray
    settings: dict[str, Any]
    images: np.ndarray | None = None
    seconds: float | None = None
    broken: BrokenExamples | None = None


def run_attack(
    spec: AttackSpec,
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    *,
    step_size: float | None = None,
    start: str = "uniform",
    success: str = "last",
    batch_size: int = 128,
    report: Progress | None = None,
    keep_images: bool = False,
    unfinished: Unfinished | None = None,
    devices: Sequence[jax.Device] = (),
) -> AttackScore:
    """Scores a network under one attack.

    An example counts as correct only if the clean image is classified correctly too, so a score
    never lies above the clean accuracy; what is misclassified clean is not attacked. Of the attacks
    that AutoAttack is made of, each target and restart is tried on what still stands, as there,
    unless all images are to be kept or the set is large; the draws are the same.

    Args:
      spec: the attack; its own settings, where it has any, go before those below.
      key: the draws of example i are a function of (key, i).
      logits_fn: images -> logits, row i of image i alone, as with fixed batch norm: PGD and CW
        leave out rows that have stopped. A `jax.tree_util.Partial` spares tracing it for every
        batch.
      dataset: what to attack.
      threat: the norm ball and the box.
      step_size: of PGD and CW, in the units of the norm; None: see
        `step_size.default_step_size`.
      start: of PGD and CW, see `attacks.pgd`.
      success: of PGD and CW, see `attacks.pgd`.
      batch_size: the last batch is padded to it.
      report: told after every batch, see `Progress`.
      keep_images: whether the score has the adversarial images.
      unfinished: keeps what is found, and goes on where it was interrupted; but for an attack of a
        user's, whose code may have changed meanwhile.
      devices: share every batch, whose size they must divide; none: the default one.

    Raises:
      ValueError: the attack is not made for the norm, or for so few classes.

    Warns:
      ReachWarning: the attack's steps reach less far than epsilon.
    """
    if not isinstance(spec, AttackSpec):
        raise refusal("spec", shown(spec), "values of AttackSpec, as parse_attack gives them")
    batch_size = checked_count("batch_size", batch_size, 1)
    check_subject(key, logits_fn, dataset, threat)
    num_classes = num_classes_of(logits_fn, dataset, batch_size)
    require_possible(spec, threat.norm, num_classes)
    spec = spec.completed(threat, num_classes, step_size=step_size, start=start, success=success)
    if spec.complaint():
        warnings.warn(f"{spec.name}: {spec.complaint()}", ReachWarning, stacklevel=2)
    if spec.examples is not None:
        dataset = data.select(dataset, np.arange(min(spec.examples, len(dataset.labels))))
    threat = attacks.ThreatModel(threat.norm, spec.epsilon, threat.bounds)
    one_run = _OneRun(
        spec, key, logits_fn, dataset, threat, batch_size, report or _silent, tuple(devices)
    )
    with warnings.catch_warnings():
        # Said above, with the attack's name.
        warnings.simplefilter("ignore", ReachWarning)
        if spec.kind in ENSEMBLES:
            return one_run.ensemble(keep_images, unfinished)
        stage = one_run.stage
        # Kept images are of all examples, those that withstand too.
        if stage is not None and one_run.fits_at_once and not keep_images:
            return one_run.alone(stage, unfinished)
        return one_run.batches(keep_images, unfinished)


class _OneRun(NamedTuple):
    """One attack on one network, its settings complete."""

    spec: AttackSpec
    key: jax.Array
    logits_fn: LogitsFn
    dataset: data.Dataset
    threat: attacks.ThreatModel
    batch_size: int
    report: Progress
    devices: tuple[jax.Device, ...]

    @property
    def settings(self) -> dict[str, Any]:
        return self.spec.settings(self.threat.norm)

    @property
    def stage(self) -> Stage | None:
        """The attack as AutoAttack would run it; None of all but its own attacks."""
        if self.spec.attack is None or is_users(self.spec.attack):
            return None
        return stage_of(self.spec.name, self.spec.attack)

    @property
    def fits_at_once(self) -> bool:
        """Whether all images may lie in memory, and ball and box are such as AutoAttack takes."""
        size = 4 * self.dataset.images.size
        bounded = self.threat.bounds is not None and np.isfinite(self.threat.epsilon)
        return bool(bounded) and size <= _MOST_BYTES

    def batches(self, keep_images: bool, unfinished: Unfinished | None) -> AttackScore:
        """Attacks batch after batch."""
        total = len(self.dataset.labels)
        given = None
        if self.spec.kind == IMAGES:  # Are there already, and are judged in no time.
            given = fitting_images(self.spec.name, self.dataset, self.threat)
            keep_images, unfinished = False, None
        if self.spec.attack is not None and is_users(self.spec.attack):
            unfinished = None  # The code may be another by now, under the same name.
        saves_images = keep_images and self.spec.attack is not None
        correct, done = np.zeros(total, bool), 0
        images = np.array(data.to_float(self.dataset.images)) if saves_images else None
        stored, broken = None, FirstBroken()
        if unfinished is not None:
            stored = unfinished.load(self.spec.name, self.settings, total, free=("broken_",))
        if stored is not None and (images is None or "images" in stored):
            correct, done = stored["correct"], int(stored["done"])
            broken = FirstBroken(stored)
            images = stored["images"] if saves_images else None
            self._tell(correct, done)
        logits_fn = parallel.copy_to_all(self.logits_fn, self.devices)
        key = self.key if self.stage is None else draws_of(self.key)
        for batch in batches_of_one_shape(total, self.batch_size, done):
            clean, labels, keys = parallel.share_rows(
                (
                    _to_float(self.dataset.images[batch.rows]),
                    jnp.asarray(self.dataset.labels[batch.rows]),
                    keys_of_examples(key, batch.rows),
                ),
                self.devices,
            )
            right = _is_right(logits_fn, clean, labels)
            if self.spec.attack is not None:
                if given is None:
                    result = self._perturb(keys, logits_fn, clean, labels)
                else:
                    (found,) = parallel.share_rows((jnp.asarray(given[batch.rows]),), self.devices)
                    result = self._judged(found, logits_fn, clean, labels)
                success = np.asarray(result.success)
                newly = batch.without_filling(right & success)
                broken.add(np.arange(total)[batch.kept], newly, result.images)
                right &= ~success
                if images is not None:
                    images[batch.kept] = batch.without_filling(result.images)
            correct[batch.kept] = batch.without_filling(right)
            if unfinished is not None:
                found = {"correct": correct, "done": np.asarray(batch.done)}
                found |= {} if images is None else {"images": images}
                found |= broken.as_arrays()
                unfinished.save(self.spec.name, self.settings, now=batch.done == total, **found)
            self._tell(correct, batch.done)
        complaint = self.spec.complaint()
        warned = {"warnings": [complaint]} if complaint else {}
        examples = broken.of(self.dataset, self._predict)
        return AttackScore(correct, {**self.settings, **warned}, images, broken=examples)

    def ensemble(self, keep_images: bool, unfinished: Unfinished | None) -> AttackScore:
        """Runs AutoAttack, which keeps its own state."""

        def progress(attack: str, done: int, of: int, robust_accuracy: float) -> None:
            self.report(f"{self.spec.name}: {attack}", done, of, robust_accuracy)

        assert isinstance(self.spec.attack, attacks.AutoAttack)
        version = self.spec.attack.version
        random = version == "rand"
        found = self._run_staged(
            functools.partial(
                attacks.autoattack,
                self.key,
                _without_draws(self.logits_fn) if random else self.logits_fn,
                version=version,
                progress=progress,
            ),
            unfinished,
        )
        settings = {
            **self.settings,
            "after_each": found.robust_accuracy,
            "seconds": found.seconds,
            "warnings": list(found.warnings),
        }
        images = found.images if keep_images else None
        return AttackScore(found.robust, settings, images, broken=self._broken(found))

    def alone(self, stage: Stage, unfinished: Unfinished | None) -> AttackScore:
        """Runs one of AutoAttack's attacks, each of its turns on what still stands."""

        def progress(attack: str, done: int, of: int, robust_accuracy: float) -> None:
            self.report(attack, done, of, robust_accuracy)

        run = functools.partial(attack_alone, stage, self.key, self.logits_fn, progress=progress)
        found = self._run_staged(run, unfinished)
        warned = {"warnings": list(found.warnings)} if found.warnings else {}
        return AttackScore(found.robust, {**self.settings, **warned}, broken=self._broken(found))

    def _run_staged(
        self, run: Callable[..., attacks.AutoAttackReport], unfinished: Unfinished | None
    ) -> attacks.AutoAttackReport:
        """Runs what keeps its own state; what was found before, if it does not fit, is not used."""
        run = functools.partial(
            run,
            images=np.array(data.to_float(self.dataset.images)),
            labels=self.dataset.labels,
            threat=self.threat,
            batch_size=self.batch_size,
            devices=self.devices,
        )
        path = None if unfinished is None else unfinished.path(self.spec.name, self.settings)
        try:
            return run(state_path=path)
        except StateError:
            assert path is not None
            path.unlink()
            return run(state_path=path)

    def _broken(self, found: attacks.AutoAttackReport) -> BrokenExamples | None:
        """A few of the images that were found."""
        clean = np.array(data.to_float(self.dataset.images))
        broken, changed = FirstBroken(), np.any(found.images != clean, axis=(1, 2, 3))
        broken.add(np.arange(len(clean)), ~found.robust & changed, found.images)
        return broken.of(self.dataset, self._predict)

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """Logits of any number of images, in batches of the shape that is compiled already."""
        logits_fn = parallel.copy_to_all(self.logits_fn, self.devices)
        logits = []
        for batch in batches_of_one_shape(len(images), self.batch_size):
            (rows,) = parallel.share_rows((jnp.asarray(images[batch.rows]),), self.devices)
            logits.append(batch.without_filling(_logits_of(logits_fn, rows)))
        return np.concatenate(logits)

    def _perturb(
        self, keys: jax.Array, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array
    ) -> attacks.AttackResult:
        """Attacks one batch."""
        assert self.spec.attack is not None
        options: dict[str, Any] = {}
        if self.spec.kind in STEPPED:
            # Gathering the active rows would move those of several devices between them.
            options["independent_rows"] = len(self.devices) < 2
        found: Any = self.spec.attack(keys, logits_fn, images, labels, self.threat, **options)
        if is_users(self.spec.attack):
            return self._judged(found, logits_fn, images, labels)
        if getattr(self.spec.attack, "targets", None) is None:
            return found
        # Success there is to reach the target; here any wrong class counts.
        wrong = ~_is_right(logits_fn, found.images, labels)
        return dataclasses.replace(found, success=jnp.asarray(wrong))

    def _judged(
        self, found: Any, logits_fn: LogitsFn, images: jax.Array, labels: jax.Array
    ) -> attacks.AttackResult:
        """What an attack of a user's gives: its images count, and what the network says of them."""
        try:
            result = as_result(found, logits_fn, images, labels)
        except UserError as error:
            raise UserError(str(error).replace("attack:", f"attack={self.spec.name}:", 1)) from None
        perturbed = np.asarray(result.images)
        norm, epsilon, bounds = self.threat.norm, float(self.threat.epsilon), self.threat.bounds
        inside = is_inside(perturbed, np.asarray(images), norm, epsilon, bounds)
        if not inside.all():
            raise UserError(
                f"attack={self.spec.name}: {(~inside).sum()} of {len(inside)} images lie outside "
                f"of the {norm} ball of epsilon={epsilon:.6g} or of the box {bounds}; "
                "threat.project(images, clean) brings them back"
            )
        wrong = ~_is_right(logits_fn, result.images, labels)
        return dataclasses.replace(result, success=jnp.asarray(wrong))

    def _tell(self, correct: np.ndarray, done: int) -> None:
        if done:
            self.report(self.spec.name, done, len(correct), float(correct[:done].mean()))


def _silent(name: str, done: int, of: int, accuracy: float) -> None:
    pass


_to_float = jax.jit(data.to_float)


def _is_right(logits_fn: LogitsFn, images: jax.Array, labels: jax.Array) -> np.ndarray:
    """Whether images are classified correctly."""
    return ~misclassified(np.asarray(_logits_of(logits_fn, images)), np.asarray(labels))


def _logits_of(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
    """The network at images, compiled once for all networks of the same shapes where it can be."""
    predict = _logits_of_partial if isinstance(logits_fn, jax.tree_util.Partial) else _logits
    return predict(logits_fn, images)


def _logits(logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
    return logits_fn(images)


_logits_of_partial = jax.jit(_logits)


def _without_draws(logits_fn: LogitsFn) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A network without randomness as one that could draw."""
    if isinstance(logits_fn, jax.tree_util.Partial):
        return jax.tree_util.Partial(_ignoring_key, logits_fn)
    return lambda images, key: logits_fn(images)


def _ignoring_key(logits_fn: LogitsFn, images: jax.Array, key: jax.Array) -> jax.Array:
    return logits_fn(images)
