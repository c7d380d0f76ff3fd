"""The attacks that a diagnosis of gradient masking compares, run on the same examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data, losses
from robustjax.attacks import iteration
from robustjax.attacks.network import clean_logits, gradient_model
from robustjax.attacks.random_keys import fold_in_each
from robustjax.attacks.rows import predicted
from robustjax.evaluation.unfinished import Unfinished

LogitsFn = Callable[[jax.Array], jax.Array]
Arrays = dict[str, np.ndarray]

Progress = Callable[[str, float, float], None]
"""Told what is measured, how much of the work is done, and of how much."""

FGSM_SCALES = (0.25, 0.5, 0.75, 1.0)
"""Single steps along one gradient, as multiples of epsilon."""

_CURVE = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
# Multiples of epsilon on the way to the radius at which the ball holds every image.
_BELOW = (0.25, 0.5, 0.75, 1.0)
_ABOVE = 4
# A gradient costs about as much as three forward passes.
_GRADIENT = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How strong the compared attacks are.

    Attributes:
      step_size: of PGD in the ball, in units of the images; other balls scale it.
      steps: after so many PGD is looked at, ascending.
      attack_steps: of the restarts, the larger balls, the other losses, and the transfer.
      restarts: of PGD.
      queries: of Square; 0 leaves it out.
      random_points: of the random search.
    """

    step_size: float
    steps: tuple[int, ...] = (1, 5, 10, 20, 50, 100)
    attack_steps: int = 50
    restarts: int = 5
    queries: int = 500
    random_points: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.step_size < math.inf):
            raise ValueError(f"step_size is {self.step_size}; it must be finite and above 0")
        ascending = all(low < high for low, high in zip(self.steps, self.steps[1:], strict=False))
        if len(self.steps) < 2 or self.steps[0] < 1 or not ascending:
            raise ValueError(
                f"steps is {self.steps}; it must be two numbers or more, at least 1, ascending"
            )
        for name, least in (
            ("attack_steps", 1), ("restarts", 2), ("queries", 0), ("random_points", 1)
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")


class Evidence(NamedTuple):
    """What withstands which attack; N examples, False wherever the clean image is misclassified.

    Attributes:
      clean: bool [N], classified correctly.
      steps: after which the long PGD was looked at, 0 (its start) first.
      compared_steps: those of them that the settings name.
      after_steps: bool [N, len(steps)], correct there; of the iterate, not of those before it.
      loss: float [N, len(steps)], the cross-entropy there; NaN where the clean image is wrong.
      fgsm: bool [N, 4], correct after single steps of `FGSM_SCALES`.
      random_point: bool [N], correct at one random point, the start of the long PGD.
      random_search: bool [N], correct at all random points.
      restarts: bool [N, R], withstands the first r restarts of PGD.
      epsilons: of the balls, ascending; the last one holds every image.
      at_epsilon: bool [N, len(epsilons)], withstands PGD in them.
      margin: bool [N], withstands PGD on the margin of the logits.
      dlr: bool [N], withstands APGD on the DLR loss; None below 3 classes.
      square: bool [N], withstands Square; None if it was left out.
      transfer: bool [N], correct at the adversarial images of another network; None without one.
      gradient: float [N], the largest entry of the cross-entropy's gradient at the clean image,
        infinite where an entry is not finite.
      clean_loss: float [N], the cross-entropy at the clean image.
      alignment: float [N], the cosine between the gradients at the clean image and at a random
        point of the ball; NaN where one is zero.
    """

    clean: np.ndarray
    steps: tuple[int, ...]
    compared_steps: tuple[int, ...]
    after_steps: np.ndarray
    loss: np.ndarray
    fgsm: np.ndarray
    random_search: np.ndarray
    restarts: np.ndarray
    epsilons: tuple[float, ...]
    at_epsilon: np.ndarray
    margin: np.ndarray
    dlr: np.ndarray | None
    square: np.ndarray | None
    transfer: np.ndarray | None
    gradient: np.ndarray
    clean_loss: np.ndarray
    alignment: np.ndarray

    def after(self, steps: int) -> np.ndarray:
        """Correct after so many steps of the long PGD, bool [N]."""
        return self.after_steps[:, self.steps.index(steps)]

    @property
    def longest(self) -> int:
        """The steps of the long PGD."""
        return self.steps[-1]

    @property
    def random_point(self) -> np.ndarray:
        """Correct at the random start of the long PGD, bool [N]."""
        return self.after(0)

    @property
    def worst_case(self) -> np.ndarray:
        """Withstands everything inside the ball that was tried, bool [N]."""
        single = (self.random_search, self.margin, self.dlr, self.square, self.transfer)
        several = (self.after_steps, self.fgsm, self.restarts)
        return np.logical_and.reduce(
            [found for found in single if found is not None]
            + [found.all(axis=1) for found in several]
        )


def gather(
    key: jax.Array,
    logits_fn: LogitsFn,
    dataset: data.Dataset,
    threat: attacks.ThreatModel,
    settings: Settings,
    *,
    source_fn: LogitsFn | None = None,
    batch_size: int = 128,
    progress: Progress | None = None,
    unfinished: Unfinished | None = None,
) -> Evidence:
    """Runs the attacks that `gradient_masking.judge` compares.

    Args:
      key: the draws of example i are a function of (key, i).
      logits_fn: images [B, H, W, C] -> logits [B, K]; a `jax.tree_util.Partial` spares tracing it
        for every batch.
      dataset: what to attack.
      threat: the norm ball, of finite epsilon above 0, and the box.
      settings: how strong the attacks are.
      source_fn: another network, whose adversarial images are tried on this one.
      batch_size: examples attacked at once.
      progress: told after every batch.
      unfinished: keeps what is found, and goes on where it was interrupted.

    Raises:
      ValueError: epsilon is not a finite number above 0, or there is no box.
    """
    if threat.bounds is None or not 0 < float(threat.epsilon) < math.inf:
        raise ValueError(
            f"threat has epsilon {threat.epsilon} and bounds {threat.bounds}; a diagnosis needs a "
            "finite epsilon above 0 and a box"
        )
    network = _Attacked(logits_fn, threat, settings, source_fn)
    about = {
        "norm": threat.norm,
        "epsilon": float(threat.epsilon),
        **dataclasses.asdict(settings),
    }
    run = _Runner(key, dataset, batch_size, progress or _silent, unfinished, about)
    shape, num_classes = dataset.images.shape[1:], dataset.num_classes
    epsilons = radii(threat, math.prod(shape))
    plan = network.plan(epsilons, num_classes)
    found: dict[str, Arrays] = {}
    run.total = len(dataset) * sum(part.passes for part in plan)
    for part in plan:
        found[part.name] = run(part, part.attacked(found))
    clean = found["clean"]["right"]

    def columns(name: str, numbers: tuple) -> np.ndarray:
        return np.stack([found[f"{name} {number:.6g}"]["right"] for number in numbers], axis=1)

    def optional(name: str) -> np.ndarray | None:
        return found[name]["right"] if name in found else None

    return Evidence(
        clean=clean,
        steps=network.curve,
        compared_steps=settings.steps,
        after_steps=found["pgd"]["right"],
        loss=np.where(clean[:, None], found["pgd"]["loss"], np.nan),
        fgsm=found["fgsm"]["right"],
        random_search=found["random search"]["right"],
        restarts=columns("restart", tuple(range(1, settings.restarts + 1))),
        epsilons=epsilons,
        at_epsilon=columns("epsilon", epsilons),
        margin=found["margin"]["right"],
        dlr=optional("dlr"),
        square=optional("square"),
        transfer=optional("transfer"),
        gradient=found["clean"]["gradient"],
        clean_loss=found["clean"]["loss"],
        alignment=found["clean"]["alignment"],
    )


def radii(threat: attacks.ThreatModel, pixels: int) -> tuple[float, ...]:
    """Radii from a fraction of epsilon to the one at which the ball holds every image.

    Args:
      threat: the norm, epsilon and the box.
      pixels: numbers in an image.
    """
    epsilon, (low, high) = float(threat.epsilon), threat.bounds
    widest = float(high - low) * (math.sqrt(pixels) if threat.norm == "l2" else 1)
    inside = [epsilon * scale for scale in _BELOW if epsilon * scale < widest]
    grown = np.geomspace(epsilon, widest, _ABOVE + 1)[1:-1] if epsilon < widest else ()
    return (*inside, *(float(value) for value in grown), widest)


class _Measurement(NamedTuple):
    """One attack, its cost in forward passes per example, and which examples it is run on."""

    name: str
    passes: int
    measure: Callable[[jax.Array, jax.Array, jax.Array], dict[str, Any]]
    attacked: Callable[[dict[str, Arrays]], np.ndarray | None]


class _Attacked(NamedTuple):
    """A network, and the attacks on it as functions of keys [B], images and labels."""

    logits_fn: LogitsFn
    threat: attacks.ThreatModel
    settings: Settings
    source_fn: LogitsFn | None

    @property
    def curve(self) -> tuple[int, ...]:
        steps = self.settings.steps
        return tuple(sorted({*(step for step in _CURVE if step < steps[-1]), *steps}))

    def plan(self, epsilons: tuple[float, ...], num_classes: int) -> list[_Measurement]:
        """What is measured, in order."""
        settings = self.settings
        attack = _GRADIENT * settings.attack_steps
        plan = [
            _Measurement("clean", 2 * _GRADIENT, self.clean, lambda found: None),
            _Measurement("fgsm", _GRADIENT * len(FGSM_SCALES), self.fgsm, _correct),
            _Measurement("random search", settings.random_points, self.random_search, _correct),
            _Measurement("pgd", _GRADIENT * settings.steps[-1], self.long_pgd, _correct),
        ]
        for restart in range(1, settings.restarts + 1):
            name = f"restart {restart}"
            plan.append(_Measurement(name, attack, self.restart(restart), _survivors(restart)))
        for epsilon in epsilons:
            name = f"epsilon {epsilon:.6g}"
            plan.append(_Measurement(name, attack, self.at_epsilon(epsilon), _correct))
        plan.append(_Measurement("margin", attack, self.margin, _correct))
        if num_classes >= 3:
            plan.append(_Measurement("dlr", attack, self.dlr, _correct))
        if settings.queries:
            plan.append(_Measurement("square", settings.queries, self.square, _correct))
        if self.source_fn is not None:
            plan.append(_Measurement("transfer", attack, self.transfer, _correct))
        return plan

    def judged(self, images: jax.Array, labels: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Whether images are classified correctly, and their cross-entropy."""
        logits = clean_logits(self.logits_fn, images, labels)
        right = predicted(np.asarray(logits)) == np.asarray(labels)
        return right, np.asarray(_cross_entropy(logits, labels))

    def pgd(self, keys, images, labels, **options) -> attacks.AttackResult:
        options = {"step_size": self.settings.step_size, "threat": self.threat, **options}
        return attacks.pgd(keys, self.logits_fn, images, labels, **options)

    def clean(self, keys, images, labels):
        model = gradient_model(losses.cross_entropy, self.logits_fn, labels)
        at_image = _flat(iteration.apply(model, images, labels)[2])
        nearby = _random_points(self.threat, fold_in_each(keys, 0), images)
        at_nearby = _flat(iteration.apply(model, nearby, labels)[2])
        right, loss = self.judged(images, labels)
        return {
            "right": right,
            "loss": loss,
            "gradient": np.max(np.abs(np.where(np.isfinite(at_image), at_image, np.inf)), axis=1),
            "alignment": _cosine(at_image, at_nearby),
        }

    def fgsm(self, keys, images, labels):
        right = []
        for scale in FGSM_SCALES:
            threat = dataclasses.replace(self.threat, epsilon=scale * self.threat.epsilon)
            result = attacks.fgsm(keys, self.logits_fn, images, labels, threat)
            right.append(self.judged(result.images, labels)[0])
        return {"right": np.stack(right, axis=1)}

    def random_search(self, keys, images, labels):
        result = attacks.random_noise(
            keys, self.logits_fn, images, labels, self.threat, draws=self.settings.random_points
        )
        return {"right": self.judged(result.images, labels)[0]}

    def long_pgd(self, keys, images, labels):
        """One PGD, looked at on its way: what goes on is the last iterate."""
        right, loss, iterate, taken = [], [], "uniform", 0
        for step in self.curve:
            iterate = self.pgd(keys, images, labels, steps=step - taken, start=iterate).images
            taken = step
            correct, cross_entropy = self.judged(iterate, labels)
            right.append(correct)
            loss.append(cross_entropy)
        return {"right": np.stack(right, axis=1), "loss": np.stack(loss, axis=1)}

    def restart(self, number: int):
        def measure(keys, images, labels):
            # The first starts where the long PGD, and PGD on the margin, start.
            keys = keys if number == 1 else fold_in_each(keys, number)
            steps = self.settings.attack_steps
            result = self.pgd(keys, images, labels, steps=steps, success="any")
            return {"right": self.judged(result.images, labels)[0]}

        return measure

    def at_epsilon(self, epsilon: float):
        def measure(keys, images, labels):
            result = self.pgd(
                keys,
                images,
                labels,
                threat=dataclasses.replace(self.threat, epsilon=epsilon),
                steps=self.settings.attack_steps,
                step_size=self.settings.step_size * epsilon / float(self.threat.epsilon),
                success="any",
            )
            return {"right": self.judged(result.images, labels)[0]}

        return measure

    def margin(self, keys, images, labels):
        steps = self.settings.attack_steps
        result = self.pgd(keys, images, labels, steps=steps, loss=losses.cw_margin, success="any")
        return {"right": self.judged(result.images, labels)[0]}

    def dlr(self, keys, images, labels):
        steps = self.settings.attack_steps
        result = attacks.apgd(
            keys, self.logits_fn, images, labels, self.threat, steps=steps, loss="dlr"
        )
        return {"right": self.judged(result.images, labels)[0]}

    def square(self, keys, images, labels):
        result = attacks.square(
            keys, self.logits_fn, images, labels, self.threat, queries=self.settings.queries
        )
        return {"right": self.judged(result.images, labels)[0]}

    def transfer(self, keys, images, labels):
        result = attacks.transfer(
            keys,
            self.source_fn,
            self.logits_fn,
            images,
            labels,
            self.threat,
            steps=self.settings.attack_steps,
            step_size=self.settings.step_size,
        )
        return {"right": self.judged(result.images, labels)[0]}


@dataclasses.dataclass
class _Runner:
    """Runs one measurement after the other over batches of the examples that it asks for."""

    key: jax.Array
    dataset: data.Dataset
    batch_size: int
    progress: Progress
    unfinished: Unfinished | None
    about: dict[str, Any]
    total: int = 0
    finished: int = 0

    def __call__(self, part: _Measurement, attacked: np.ndarray | None) -> Arrays:
        """What was measured, scattered over all examples; zeros (False) where none was asked."""
        everyone = len(self.dataset)
        rows = np.arange(everyone) if attacked is None else np.flatnonzero(attacked)
        found = self._load(part)
        done = 0 if found is None else int(found.pop("done"))
        while done < len(rows) or found is None:
            chosen = rows[done : done + self.batch_size]
            values = self._measure(part, chosen)
            if found is None:
                found = {
                    name: np.zeros((everyone, *value.shape[1:]), value.dtype)
                    for name, value in values.items()
                }
            for name, value in values.items():
                found[name][chosen] = value[: len(chosen)]
            done += len(chosen)
            self._save(part, found, done, done >= len(rows))
            self.progress(part.name, self.finished + part.passes * done, self.total)
        self.finished += part.passes * everyone
        self.progress(part.name, self.finished, self.total)
        return found

    def _measure(self, part: _Measurement, chosen: np.ndarray) -> Arrays:
        """One batch, filled up so that all have one size."""
        size = min(self.batch_size, len(self.dataset))
        filled = np.resize(chosen if len(chosen) else np.zeros(1, int), size)
        images = data.to_float(jnp.asarray(self.dataset.images[filled]))
        labels = jnp.asarray(self.dataset.labels[filled])
        keys = _keys_of(self.key, jnp.asarray(filled))
        measured = part.measure(keys, images, labels)
        return {name: np.asarray(value) for name, value in measured.items()}

    def _load(self, part: _Measurement) -> Arrays | None:
        return None if self.unfinished is None else self.unfinished.load(part.name, self.about)

    def _save(self, part: _Measurement, found: Arrays, done: int, whole: bool) -> None:
        if self.unfinished is not None:
            arrays = {"done": np.asarray(done), **found}
            self.unfinished.save(part.name, self.about, now=whole, **arrays)


def _silent(name: str, done: float, total: float) -> None:
    pass


def _correct(found: dict[str, Arrays]) -> np.ndarray:
    return found["clean"]["right"]


def _survivors(restart: int) -> Callable[[dict[str, Arrays]], np.ndarray]:
    """What withstood the restarts before, or, for the first one, what is correct."""
    if restart == 1:
        return _correct
    return lambda found: found[f"restart {restart - 1}"]["right"]


def _flat(gradient: jax.Array) -> np.ndarray:
    return np.asarray(gradient, np.float64).reshape(len(gradient), -1)


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[B], the cosine of the angle between rows; NaN where one is zero."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(first * second, axis=1) / np.where(lengths > 0, lengths, np.nan)


@jax.jit
def _keys_of(key: jax.Array, examples: jax.Array) -> jax.Array:
    return jax.vmap(lambda example: jax.random.fold_in(key, example))(examples)


@jax.jit
def _random_points(threat: attacks.ThreatModel, keys: jax.Array, images: jax.Array) -> jax.Array:
    return threat.random_start(keys, images)


_cross_entropy = jax.jit(losses.cross_entropy)
