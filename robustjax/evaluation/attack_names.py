"""Attacks by name: what `--attacks=clean,pgd-20,autoattack` means."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from robustjax import attacks

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

# Take gradient steps of a size that is chosen, from a start that is chosen.
STEPPED = ("pgd", "cw")
ENSEMBLES = {"autoattack": "standard", "autoattack-rand": "rand"}

# 100 steps with 8192 points each: what NAP reports.
_SPSA_STEPS, _SPSA_SAMPLES = 100, 8192

# The margin inside the ball, sampled gradients: written for linf alone.
_LINF_ONLY = ("cw", "spsa")


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

    def completed(
        self, *, epsilon: float, step_size: float, start: str, success: str
    ) -> AttackSpec:
        """With the evaluation's settings where the attack has none of its own."""
        given = {"epsilon": epsilon, "step_size": step_size, "start": start, "success": success}
        return self._replace(
            **{name: value for name, value in given.items() if getattr(self, name) is None}
        )

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
            "apgd-t": {"steps": 100, "loss": "targeted dlr"},
            "fab-t": {"steps": 100},
            "square": {"queries": 5000},
            "spsa": {
                "steps": self.steps,
                "samples": self.samples,
                "delta": 0.01,
                "learning_rate": 0.01,
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
      ValueError: it is not one of `ACCEPTED`.
    """
    if name == "spsa":
        return AttackSpec(name, name, _SPSA_STEPS, samples=_SPSA_SAMPLES)
    if name in _PLAIN:
        return AttackSpec(name, name, int(name == "fgsm"))
    stepped = re.fullmatch(r"(pgd|cw)-(\d+)(?:x(\d+))?", name)
    if stepped is not None and int(stepped[2]) >= 1 and int(stepped[3] or 1) >= 1:
        return AttackSpec(name, stepped[1], int(stepped[2]), int(stepped[3] or 1))
    spsa = re.fullmatch(r"spsa-(\d+)x(\d+)", name)
    if spsa is not None and int(spsa[1]) >= 1 and int(spsa[2]) >= 2 and int(spsa[2]) % 2 == 0:
        return AttackSpec(name, "spsa", int(spsa[1]), samples=int(spsa[2]))
    random = re.fullmatch(r"random-(\d+)", name)
    if random is not None and int(random[1]) >= 1:
        return AttackSpec(name, "random", 0, int(random[1]))
    raise ValueError(f"unknown attack {name!r} in --attacks: accepted are {ACCEPTED}")


def require_norm(spec: AttackSpec, norm: str) -> None:
    """Sees that the attack is made for the norm.

    Raises:
      ValueError: it is not.
    """
    if norm != "linf" and spec.kind in _LINF_ONLY:
        raise ValueError(f"{spec.name} in --attacks is an linf attack; the threat model is {norm}")
    if norm not in attacks.threat_model.NORMS:
        raise ValueError(f"unknown norm {norm!r}")
