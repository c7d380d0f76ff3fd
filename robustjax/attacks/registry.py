"""Attacks by name: what `--attacks=clean,pgd-20,autoattack` means."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from robustjax import attacks
from robustjax.arguments import LARGEST_COUNT, nearest, shown
from robustjax.attacks.spsa import default_scales
from robustjax.step_size import default_step_size, reach_complaint

ACCEPTED = (
    "clean, random-N (the worst of N random points), fgsm, pgd-K, pgd-KxR (R restarts), cw-K, "
    "cw-KxR, apgd-ce, apgd-dlr, apgd-t, fab-t, square, spsa (100 steps of 8192 points), spsa-KxN, "
    "deepfool, autoattack, autoattack-rand"
)

# Without a number in the name: the attack's own settings.
_PLAIN = (
    "clean",
    "fgsm",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab-t",
    "square",
    "deepfool",
    "autoattack",
    "autoattack-rand",
)
_NUMBERED = ("pgd", "cw", "spsa", "random")

# Take gradient steps of a size that is chosen, from a start that is chosen.
STEPPED = ("pgd", "cw")
ENSEMBLES = {"autoattack": "standard", "autoattack-rand": "rand"}

# 100 steps with 8192 points each: what NAP reports.
_SPSA_STEPS, _SPSA_SAMPLES = 100, 8192

# The margin inside the ball, sampled gradients: written for linf alone.
_LINF_ONLY = ("cw", "spsa")

# The fewest classes for which a loss is defined.
_FEWEST_CLASSES = {"apgd-dlr": 3}

_TARGETED = {"apgd-t": 9, "fab-t": 9}
"""How many runners-up are aimed at, if there are as many."""


class AttackSpec(NamedTuple):
    """One attack of a suite. What is None is as the evaluation says.

    Attributes:
      name: such as "pgd-20".
      kind: the name without its numbers.
      steps: gradient steps; 0 where the attack has its own.
      restarts: random starts; of "random" the number of points.
      epsilon: radius of the ball.
      step_size: of "pgd" and "cw".
      start: of "pgd" and "cw", see `attacks.pgd`.
      success: of "pgd" and "cw": "last" iterate or "any".
      examples: attacks the first so many of the test set.
      samples: of "spsa", points at which a step takes the loss.
      delta: of "spsa", how far these points are.
      learning_rate: of "spsa".
      targets: of "apgd-t" and "fab-t", how many runners-up are aimed at.
      loss: of "apgd-t", "dlr" or, where that needs more classes, "margin".
    """

    name: str
    kind: str
    steps: int = 0
    restarts: int = 1
    epsilon: float | None = None
    step_size: float | None = None
    start: str | None = None
    success: str | None = None
    examples: int | None = None
    samples: int = 0
    delta: float | None = None
    learning_rate: float | None = None
    targets: int = 0
    loss: str = ""

    def completed(
        self,
        threat: attacks.ThreatModel,
        num_classes: int,
        *,
        step_size: float | None = None,
        start: str = "uniform",
        success: str = "last",
    ) -> AttackSpec:
        """With the evaluation's settings where the attack has none of its own, as numbers.

        Args:
          threat: the norm ball and the box of the evaluation; the radius may be the attack's own.
          num_classes: of the network.
          step_size: of "pgd" and "cw"; None: that of `default_step_size`.
          start: of "pgd" and "cw".
          success: of "pgd" and "cw".
        """
        epsilon = float(threat.epsilon) if self.epsilon is None else self.epsilon
        found = self._replace(epsilon=epsilon)
        if self.kind in STEPPED:
            usual = default_step_size(epsilon, self.steps) if step_size is None else step_size
            given = {"step_size": usual, "start": start, "success": success}
            found = found._replace(
                **{name: value for name, value in given.items() if getattr(self, name) is None}
            )
        if self.kind == "spsa":
            ball = attacks.ThreatModel(threat.norm, epsilon, threat.bounds)
            delta, learning_rate = map(float, default_scales(ball, self.steps))
            found = found._replace(delta=delta, learning_rate=learning_rate)
        if self.kind in _TARGETED:
            found = found._replace(targets=min(_TARGETED[self.kind], num_classes - 1))
        if self.kind == "apgd-t":
            found = found._replace(loss="dlr" if num_classes >= 4 else "margin")
        return found

    def complaint(self) -> str:
        """What is wrong with the settings of a completed attack; "" if nothing is."""
        if self.kind in STEPPED:
            return reach_complaint(self.epsilon, self.steps, self.step_size)
        return ""

    def settings(self, norm: str) -> dict[str, Any]:
        """The exact settings, for the record; of a completed attack."""
        if self.kind == "clean":
            return {}
        ball = {"norm": norm, "epsilon": float(self.epsilon)}
        own = {
            "fgsm": {"steps": 1, "step_size": float(self.epsilon), "start": "clean"},
            "random": {"draws": self.restarts},
            "pgd": {"loss": "cross-entropy"},
            "cw": {"loss": "cw margin"},
            "apgd-ce": {"steps": 100, "restarts": 1, "loss": "cross-entropy"},
            "apgd-dlr": {"steps": 100, "restarts": 1, "loss": "dlr"},
            "apgd-t": {
                "steps": 100,
                "targets": self.targets,
                "loss": {"dlr": "targeted dlr", "margin": "difference of logits"}.get(self.loss),
            },
            "fab-t": {"steps": 100, "targets": self.targets},
            "square": {"queries": 5000},
            "spsa": {
                "steps": self.steps,
                "samples": self.samples,
                "delta": self.delta,
                "learning_rate": self.learning_rate,
            },
            "autoattack": {"version": "standard"},
            "autoattack-rand": {"version": "rand"},
        }.get(self.kind, {})
        if self.kind in STEPPED:
            own = {
                "steps": self.steps,
                "step_size": float(self.step_size),
                "start": self.start,
                "restarts": self.restarts,
                "success": self.success,
                **own,
            }
        return {**ball, **own}


def parse_attack(name: str) -> AttackSpec:
    """An attack by its name.

    Raises:
      ValueError: it is not one of `ACCEPTED`; the message names the nearest.
    """
    if name == "spsa":
        return AttackSpec(name, name, _SPSA_STEPS, samples=_SPSA_SAMPLES)
    if name in _PLAIN:
        return AttackSpec(name, name, int(name == "fgsm"))
    stepped = re.fullmatch(r"(pgd|cw)-([0-9]+)(?:x([0-9]+))?", str(name))
    if stepped is not None:
        steps, restarts = _count(name, stepped[2]), _count(name, stepped[3] or "1")
        return AttackSpec(name, stepped[1], steps, restarts)
    spsa = re.fullmatch(r"spsa-([0-9]+)x([0-9]+)", str(name))
    if spsa is not None:
        steps, samples = _count(name, spsa[1]), _count(name, spsa[2])
        if samples % 2:
            raise ValueError(f"{name!r} in --attacks: the points of spsa-KxN are an even number")
        return AttackSpec(name, "spsa", steps, samples=samples)
    random = re.fullmatch(r"random-([0-9]+)", str(name))
    if random is not None:
        return AttackSpec(name, "random", 0, _count(name, random[1]))
    raise ValueError(f"unknown attack {name!r} in --attacks: accepted are {ACCEPTED}{_hint(name)}")


def _count(name: str, text: str) -> int:
    """A number in an attack's name: of steps, restarts or points."""
    if len(text) > len(str(LARGEST_COUNT)) or not 1 <= int(text) <= LARGEST_COUNT:
        raise ValueError(
            f"{shown(name)!r} in --attacks: accepted are whole numbers, 1 to {LARGEST_COUNT}"
        )
    return int(text)


def _hint(name: Any) -> str:
    """The nearest attack: that of the letters, with the numbers as they were written."""
    text = str(name)
    letters = re.match(r"[A-Za-z-]*[A-Za-z]", text)
    numbers = text[letters.end() :] if letters else text
    near = nearest(text, _PLAIN)
    if letters and re.search("[0-9]", numbers):
        kind = nearest(letters[0], _NUMBERED)
        near = near if kind is None else f"{kind}-{numbers.lstrip('-_ ')}"
    elif near is None and letters:
        kind = nearest(letters[0], _NUMBERED)
        near = (
            None if kind is None else {"spsa": "spsa", "random": "random-8"}.get(kind, f"{kind}-20")
        )
    return "" if near is None else f"; did you mean {near!r}?"


def require_possible(spec: AttackSpec, norm: str, num_classes: int) -> None:
    """Sees that an attack can be run, before any is.

    Args:
      spec: the attack.
      norm: of the ball.
      num_classes: of the network.

    Raises:
      ValueError: it is not made for the norm, or needs more classes.
    """
    if norm not in attacks.threat_model.NORMS:
        raise ValueError(f"unknown norm {norm!r}")
    if norm != "linf" and spec.kind in _LINF_ONLY:
        raise ValueError(f"{spec.name} in --attacks is an linf attack; the threat model is {norm}")
    fewest = _FEWEST_CLASSES.get(spec.kind, 1 if spec.kind == "clean" else 2)
    if num_classes < fewest:
        raise ValueError(
            f"{spec.name} in --attacks needs {fewest} classes or more, and the network has "
            f"{num_classes}"
        )
