"""An attack whose arguments are checked, before its first step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from robustjax.attacks import _checks as checks
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


def runs_whole(prepare: Callable[..., Prepared]) -> Callable[..., AttackResult]:
    """Makes an attack of a function that prepares it, which becomes the attack's `prepare`."""
    signature = inspect.signature(prepare)

    @functools.wraps(prepare)
    def attack(*args: Any, **kwargs: Any) -> AttackResult:
        images = signature.bind(*args, **kwargs).arguments["images"]
        if getattr(images, "shape", None) and not len(images):
            # There is nothing to prepare: no network is made for no images.
            return AttackResult.empty(checks.checked_images(images))
        return prepare(*args, **kwargs).run()

    attack.prepare = prepare
    attack.__annotations__ = {**prepare.__annotations__, "return": AttackResult}
    attack.__signature__ = signature.replace(return_annotation=AttackResult)
    return attack
