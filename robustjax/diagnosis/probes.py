"""The attacks that a diagnosis of gradient masking compares, and the order they are run in."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from robustjax import attacks, losses
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.keys import fold_in_each
from robustjax.attacks.engine.model import clean_logits, gradient_model
from robustjax.attacks.engine.rows import predicted
from robustjax.diagnosis.records import FGSM_SCALES, Settings

LogitsFn = Callable[[jax.Array], jax.Array]
Arrays = dict[str, np.ndarray]

_CURVE = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)
# A gradient costs about as much as three forward passes.
_GRADIENT = 3


class Measurement(NamedTuple):
    """One attack, its cost in forward passes per example, and which examples it is run on."""

    name: str
    passes: int
    measure: Callable[[jax.Array, jax.Array, jax.Array], dict[str, Any]]
    attacked: Callable[[dict[str, Arrays]], np.ndarray | None]


class Attacked(NamedTuple):
    """A network, and the attacks on it as functions of keys [B], images and labels."""

    logits_fn: LogitsFn
    threat: attacks.ThreatModel
    settings: Settings
    source_fn: LogitsFn | None

    @property
    def curve(self) -> tuple[int, ...]:
        """After so many steps the long PGD is looked at, ascending."""
        steps = self.settings.steps
        return tuple(sorted({*(step for step in _CURVE if step < steps[-1]), *steps}))

    def plan(self, epsilons: tuple[float, ...], num_classes: int) -> list[Measurement]:
        """What is measured, in order."""
        settings = self.settings
        attack = _GRADIENT * settings.attack_steps
        plan = [
            Measurement("clean", 2 * _GRADIENT, self.clean, lambda found: None),
            Measurement("fgsm", _GRADIENT * len(FGSM_SCALES), self.fgsm, _correct),
            Measurement("random search", settings.random_points, self.random_search, _correct),
            Measurement("pgd", _GRADIENT * settings.steps[-1], self.long_pgd, _correct),
        ]
        for restart in range(1, settings.restarts + 1):
            name = f"restart {restart}"
            plan.append(Measurement(name, attack, self.restart(restart), _survivors(restart)))
        for epsilon in epsilons:
            name = f"epsilon {epsilon:.6g}"
            plan.append(Measurement(name, attack, self.at_epsilon(epsilon), _correct))
        plan.append(Measurement("margin", attack, self.margin, _correct))
        if num_classes >= 3:
            plan.append(Measurement("dlr", attack, self.dlr, _correct))
        if settings.queries:
            plan.append(Measurement("square", settings.queries, self.square, _correct))
        if self.source_fn is not None:
            plan.append(Measurement("transfer", attack, self.transfer, _correct))
        return plan

    def judged(self, images: jax.Array, labels: jax.Array) -> tuple[np.ndarray, np.ndarray]:
        """Whether images are classified correctly, and their cross-entropy."""
        logits = clean_logits(self.logits_fn, images, labels)
        right = predicted(np.asarray(logits)) == np.asarray(labels)
        return right, np.asarray(_cross_entropy(logits, labels))

    def pgd(self, keys, images, labels, **options) -> attacks.AttackResult:
        """PGD in the ball, with the settings' step size."""
        options = {"step_size": self.settings.step_size, "threat": self.threat, **options}
        return attacks.pgd(keys, self.logits_fn, images, labels, **options)

    def clean(self, keys, images, labels):
        """The clean images: correctness, loss, and gradients there and nearby."""
        model = gradient_model(losses.cross_entropy, self.logits_fn, labels)
        at_image = _flat(engine.apply(model, images, labels)[2])
        nearby = _random_points(self.threat, fold_in_each(keys, 0), images)
        at_nearby = _flat(engine.apply(model, nearby, labels)[2])
        right, loss = self.judged(images, labels)
        return {
            "right": right,
            "loss": loss,
            "gradient": np.max(np.abs(np.where(np.isfinite(at_image), at_image, np.inf)), axis=1),
            "alignment": _cosine(at_image, at_nearby),
        }

    def fgsm(self, keys, images, labels):
        """Single steps of several lengths along one gradient."""
        right = []
        for scale in FGSM_SCALES:
            threat = dataclasses.replace(self.threat, epsilon=scale * self.threat.epsilon)
            result = attacks.fgsm(keys, self.logits_fn, images, labels, threat)
            right.append(self.judged(result.images, labels)[0])
        return {"right": np.stack(right, axis=1)}

    def random_search(self, keys, images, labels):
        """Random points of the ball."""
        result = attacks.random_noise(
            keys, self.logits_fn, images, labels, self.threat, draws=self.settings.random_points
        )
        return {"right": self.judged(result.images, labels)[0]}

    def long_pgd(self, keys, images, labels):
        """One PGD, looked at on its way: what goes on is the last iterate."""
        right, loss, taken = [], [], 0
        start: jax.Array | str = "uniform"
        for step in self.curve:
            with warnings.catch_warnings():
                # A part of the way need not cross the ball.
                warnings.simplefilter("ignore")
                iterate = self.pgd(keys, images, labels, steps=step - taken, start=start).images
            start, taken = iterate, step
            correct, cross_entropy = self.judged(iterate, labels)
            right.append(correct)
            loss.append(cross_entropy)
        return {"right": np.stack(right, axis=1), "loss": np.stack(loss, axis=1)}

    def restart(self, number: int):
        """PGD from its start of this number, counted from 1."""

        def measure(keys, images, labels):
            # The first starts where the long PGD, and PGD on the margin, start.
            keys = keys if number == 1 else fold_in_each(keys, number)
            steps = self.settings.attack_steps
            result = self.pgd(keys, images, labels, steps=steps, success="any")
            return {"right": self.judged(result.images, labels)[0]}

        return measure

    def at_epsilon(self, epsilon: float):
        """PGD in a ball of another radius, its step in proportion."""

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
        """PGD on the margin of the logits."""
        steps = self.settings.attack_steps
        result = self.pgd(keys, images, labels, steps=steps, loss=losses.cw_margin, success="any")
        return {"right": self.judged(result.images, labels)[0]}

    def dlr(self, keys, images, labels):
        """APGD on the DLR loss."""
        steps = self.settings.attack_steps
        result = attacks.apgd(
            keys, self.logits_fn, images, labels, self.threat, steps=steps, loss="dlr"
        )
        return {"right": self.judged(result.images, labels)[0]}

    def square(self, keys, images, labels):
        """Square, which needs no gradient."""
        result = attacks.square(
            keys, self.logits_fn, images, labels, self.threat, queries=self.settings.queries
        )
        return {"right": self.judged(result.images, labels)[0]}

    def transfer(self, keys, images, labels):
        """PGD on the other network."""
        assert self.source_fn is not None  # Else it is not in the plan.
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
def _random_points(threat: attacks.ThreatModel, keys: jax.Array, images: jax.Array) -> jax.Array:
    return threat.random_start(keys, images)


_cross_entropy = jax.jit(losses.cross_entropy)
