"""One attack of a suite: by its name, with what the evaluation says where the name says nothing."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol, cast

from robustjax import attacks
from robustjax.arguments import require_choice
from robustjax.attacks import naming, registry
from robustjax.attacks.attack import Attack, completed, recorded_settings
from robustjax.attacks.threat_model import NORMS
from robustjax.errors import UserError
from robustjax.evaluation.given_images import ImageFile, is_image_file, read
from robustjax.step_size import reach_complaint

CLEAN = "clean"

IMAGES = "images"
"""The kind of a file of adversarial images."""

STEPPED = ("pgd", "cw")
"""Take gradient steps of a size that is chosen, from a start that is chosen."""

ENSEMBLES = ("autoattack", "autoattack-rand")
"""Choose among all examples which go on, and so are given all of them at once."""


_DISTANCES = frozenset(("step_size", "noise", "delta", "learning_rate"))


class Stepped(Protocol):
    """An attack of a kind in `STEPPED`; its step size is a number once it is completed."""

    @property
    def steps(self) -> int:
        """How many it takes."""
        ...

    @property
    def step_size(self) -> float:
        """In units of the images."""
        ...

    @property
    def restarts(self) -> int:
        """How often it begins anew."""
        ...


class AttackSpec(NamedTuple):
    """One attack of a suite. What is None is as the evaluation says.

    Attributes:
      name: such as "pgd-20".
      kind: of the registry, or "clean", or "images" of a file of adversarial images.
      attack: the value; None of "clean".
      given: the settings that are the attack's own, whatever the evaluation says.
      epsilon: radius of the ball.
      examples: attacks the first so many of the test set.
    """

    name: str
    kind: str
    attack: Attack | None = None
    given: frozenset[str] = frozenset()
    epsilon: float | None = None
    examples: int | None = None

    @property
    def stepped(self) -> Stepped:
        """The attack, of a kind in `STEPPED`."""
        return cast(Stepped, self.attack)

    def with_settings(self, **settings: Any) -> AttackSpec:
        """With settings that become the attack's own; those that it does not have are left out."""
        own = _own(self.attack, settings)
        attack: Any = self.attack
        attack = dataclasses.replace(attack, **own) if own else attack
        return self._replace(attack=attack, given=self.given | own.keys())

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

        What is completed stays as it is, whatever another evaluation says.

        Args:
          threat: the norm ball and the box of the evaluation; the radius may be the attack's own.
          num_classes: of the network.
          step_size: of "pgd" and "cw"; None: that of `default_step_size`.
          start: of "pgd" and "cw".
          success: of "pgd" and "cw".
        """
        epsilon = float(threat.epsilon) if self.epsilon is None else self.epsilon
        found = self._replace(epsilon=epsilon)
        attack: Any = found.attack
        if attack is None:
            return found
        if self.kind in STEPPED:
            usual = {"step_size": step_size, "start": start, "success": success}
            more = {name: value for name, value in usual.items() if name not in self.given}
            attack = dataclasses.replace(attack, **more)
            found = found._replace(given=self.given | more.keys())
        if isinstance(attack, ImageFile):
            there = len(read(attack.file).images)
            found = found._replace(examples=min(there, found.examples or there))
        ball = attacks.ThreatModel(threat.norm, epsilon, threat.bounds)
        return found._replace(attack=completed(attack, ball, num_classes))

    def own_distances(self) -> dict[str, float]:
        """The settings of its own that are distances, in units of the images, by what says them."""
        values = {name: getattr(self.attack, name, None) for name in _DISTANCES & self.given}
        return {
            f"attack={self.name}: {name} {value:g}": value
            for name, value in values.items()
            if value is not None
        }

    def complaint(self) -> str:
        """What is wrong with the settings of a completed attack; "" if nothing is."""
        if self.kind in STEPPED:
            return reach_complaint(self.epsilon, self.stepped.steps, self.stepped.step_size)
        return ""

    def settings(self, norm: str) -> dict[str, Any]:
        """The exact settings, for the record; of a completed attack."""
        if self.attack is None:
            return {}
        assert self.epsilon is not None  # It is completed.
        ball = {"norm": norm, "epsilon": float(self.epsilon)}
        return {**ball, **recorded_settings(self.attack)}


def accepted_attacks() -> str:
    """The names of attacks that an evaluation takes, as help and messages say them."""
    return f"{CLEAN}, {registry.accepted()}"


def parse_attack(attack: Any) -> AttackSpec:
    """An attack by its name, or a value of `robustjax.attacks`, which gets the name that it has.

    A name that ends in ".npz" is that of a file of adversarial images, see `ImageFile`.

    Raises:
      ValueError: it is not one of `accepted_attacks()`; the message names the nearest.
    """
    if isinstance(attack, AttackSpec):
        return attack
    if attack == CLEAN:
        return AttackSpec(CLEAN, CLEAN)
    if is_image_file(attack):
        attack = ImageFile(attack)
    if isinstance(attack, ImageFile):
        return AttackSpec(attack.file, IMAGES, cast(Attack, attack))
    if dataclasses.is_dataclass(attack) and not isinstance(attack, type):
        name = naming.name_of(attack)
        fields = frozenset(field.name for field in dataclasses.fields(attack))
        given = fields - {"step_size"} if getattr(attack, "step_size", 0) is None else fields
        return AttackSpec(name, naming.parse(name).kind, cast(Attack, attack), given)
    kind, value, given = naming.parse(attack)
    return AttackSpec(attack, kind, value, given)


def require_possible(spec: AttackSpec, norm: str, num_classes: int) -> None:
    """Sees that an attack can be run, before any is.

    Args:
      spec: the attack.
      norm: of the ball.
      num_classes: of the network.

    Raises:
      ValueError: it is not made for the norm, or needs more classes.
    """
    require_choice("norm", norm, NORMS)
    if spec.kind in (CLEAN, IMAGES):
        fewest = 1
    else:
        entry = registry.ENTRIES[spec.kind]
        fewest = entry.fewest_classes
        if norm not in entry.norms:
            raise UserError(
                f"attack={spec.name}: it is an {' or '.join(entry.norms)} attack; the threat "
                f"model is {norm}"
            )
    if num_classes < fewest:
        raise UserError(
            f"attack={spec.name}: it needs {fewest} classes or more, and the network has "
            f"{num_classes}"
        )


def _own(attack: Any, settings: dict[str, Any]) -> dict[str, Any]:
    if attack is None:
        return {}
    fields = {field.name for field in dataclasses.fields(attack)}
    return {name: value for name, value in settings.items() if name in fields}
