"""An attack as a value: a frozen dataclass of its settings, which is called on images.

Arrays are no settings: what belongs to the images (targets, budgets, the points to start from) is
given to the call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax

from robustjax.attacks import _checks as checks
from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.result import AttackResult
from robustjax.attacks.threat_model import ThreatModel
from robustjax.shapes import CleanImages, ImageLabels


class Attack(Protocol):
    """An attack whose settings are its fields."""

    def __call__(
        self,
        key: jax.Array,
        logits_fn: Callable[[jax.Array], jax.Array],
        images: CleanImages,
        labels: ImageLabels,
        threat: ThreatModel,
    ) -> AttackResult:
        """Attacks images `[B, ...]` inside of the threat model."""
        ...


class Preparable(Protocol):
    """An attack that can be prepared without being run."""

    def prepare(self, *arguments: Any, **arrays: Any) -> Prepared:
        """Checks the arguments of a call, and gives what the engine runs."""
        ...


AnyAttack = TypeVar("AnyAttack")


def run_whole(
    attack: Preparable,
    key: jax.Array,
    logits_fn: Callable[..., jax.Array],
    images: CleanImages,
    labels: ImageLabels,
    threat: ThreatModel,
    **arrays: Any,
) -> AttackResult:
    """Prepares an attack and runs it to its end; of no images there is nothing to prepare."""
    if getattr(images, "shape", None) and not len(images):
        return AttackResult.empty(checks.checked_images(images))
    return attack.prepare(key, logits_fn, images, labels, threat, **arrays).run()


def completed(attack: AnyAttack, threat: ThreatModel, num_classes: int) -> AnyAttack:
    """The attack with numbers where it has defaults that follow the ball or the classes.

    Args:
      attack: any; one without such defaults is given back.
      threat: the norm ball and the box, of numbers.
      num_classes: of the network, K.
    """
    own = getattr(attack, "completed", None)
    return attack if own is None else own(threat, num_classes)


def recorded_settings(attack: Any) -> dict[str, Any]:
    """What a record says of an attack: its fields, without those that are None, as JSON has them.

    Args:
      attack: a dataclass; `completed`, so that a default that was computed stands there as what it
        came to. Of an attack that is none, nothing is known.
    """
    if not dataclasses.is_dataclass(attack) or isinstance(attack, type):
        return {}
    return {
        name: _plain(value)
        for name, value in dataclasses.asdict(attack).items()
        if value is not None
    }


def _plain(value: Any) -> Any:
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
