"""An attack whose arguments are checked, before its first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from robustjax.attacks.engine import run as engine
from robustjax.attacks.result import AttackResult


class Prepared(NamedTuple):
    """What `engine.run` takes, and how what it keeps is read.

    Attributes:
      attack: the parts of the attack.
      model: what it asks of the network.
      examples: arguments like those that it calls the model with.
      inputs: what it starts from.
      steps: of each run.
      runs: restarts, targets, or restarts for each target.
      outcome: makes a result of what is kept at the end.
    """

    attack: engine.IterativeAttack
    model: Callable[..., Any]
    examples: tuple[Any, ...]
    inputs: Any
    steps: int
    runs: int
    outcome: Callable[[Any], AttackResult]

    def run(self) -> AttackResult:
        """Runs the attack to its end."""
        return self.outcome(
            engine.run(self.attack, self.model, self.examples, self.inputs, self.steps, self.runs)
        )
