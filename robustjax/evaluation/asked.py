"""What is asked of an evaluation, and whether a run's records have it already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from robustjax.attacks import ThreatModel
from robustjax.attacks.registry import is_users
from robustjax.evaluation.spec import CLEAN, STEPPED, AttackSpec, require_possible
from robustjax.runs.evaluations import Record, value_of

_ANY_CLASSES = 10
"""PGD and CW go by no number of classes."""


def usual_settings(
    spec: AttackSpec, norm: str, epsilon: float, step_size: float | None = None
) -> dict[str, Any]:
    """What a record says of an attack in an evaluation that says no more than a ball and a step.

    What its name says besides is left out.

    Args:
      spec: the attack.
      norm: of the ball.
      epsilon: its radius, where the attack has none of its own.
      step_size: of PGD and CW; None: what follows from the radius.
    """
    if spec.attack is None:
        return {}
    ball = ThreatModel(norm, epsilon if spec.epsilon is None else spec.epsilon)
    settings: dict[str, Any] = {"norm": ball.norm, "epsilon": float(ball.epsilon)}
    if spec.kind in STEPPED:
        attack = spec.completed(ball, _ANY_CLASSES, step_size=step_size).attack
        settings |= {name: getattr(attack, name) for name in ("step_size", "start", "success")}
    return settings


class Asked(NamedTuple):
    """An evaluation as it is asked for.

    Attributes:
      subject: what is attacked, as `runs.evaluations.subject_of` names it.
      threat: the norm ball and the box.
      num_classes: of the network.
      examples: how many are attacked, the first of the data.
      seed: of the random starts.
      step_size: of PGD and CW; None: what follows from the radius.
      start: likewise.
      success: likewise.
    """

    subject: str
    threat: ThreatModel
    num_classes: int
    examples: int
    seed: int
    step_size: float | None = None
    start: str = "uniform"
    success: str = "last"

    def options(self) -> dict[str, Any]:
        """What is said of attacks whose names do not say it; JSON."""
        return {"step_size": self.step_size, "start": self.start, "success": self.success}

    def recorded(self, spec: AttackSpec, records: Sequence[Record]) -> Record | None:
        """The newest record of one of the attacks, with all its settings; None if there is none.

        Code of a user's may have changed under its name: it is never taken to be there.

        Args:
          spec: the attack.
          records: of the run.

        Raises:
          ValueError: the attack is not made for the norm, or for so few classes.
        """
        require_possible(spec, self.threat.norm, self.num_classes)
        if spec.attack is not None and is_users(spec.attack):
            return None
        completed = spec.completed(self.threat, self.num_classes, **self.options())
        value = value_of(spec.name, completed.settings(self.threat.norm), self.seed)
        wanted = min(self.examples, completed.examples or self.examples)
        for record in reversed(records):
            found = (record.subject, record.value, record.examples)
            whole = record.correct is not None
            if spec.kind == CLEAN:  # Of earlier versions without the labels.
                whole = whole and record.labels is not None
            if found == (self.subject, value, wanted) and whole:
                return record
        return None
