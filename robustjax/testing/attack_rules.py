"""What holds for an attack: images inside of the ball and the box, and the truth about them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.naming import norms_of
from robustjax.attacks.registry import FunctionAttack, as_result
from robustjax.errors import UserError
from robustjax.testing.broken_rule import (
    BATCH,
    KEPT,
    SHAPE,
    broken,
    images_near_the_edges,
    linear_weights,
    require,
    require_rows,
    same,
    some_labels,
)

_RADII = {"linf": 0.1, "l2": 0.3, "l1": 1.0}
"""Of the balls that an attack is tried in."""


def check_attack(
    attack: Callable[..., Any] | str,
    *,
    norms: Sequence[str] | None = None,
    independent_rows: bool = True,
) -> None:
    """Tries the rules of attacks on one that is yours.

    They are: an attack is a frozen dataclass of its settings, or a function, called as
    `attack(key, logits_fn, images, labels, threat)`; it gives an `attacks.AttackResult`, or images
    alone; these are floating, of the shape of the clean ones, inside of the ball and the box, also
    of radius 0; `success` is what the network says of them; the same key gives the same again; and
    where an attack takes one key per example, [B], an example is attacked alike in any company.

    Args:
      attack: the dataclass's value, the function, or a name as `attacks.create` takes it.
      norms: of the balls that it is made for; if not given, those that it was registered for, and
        all of an attack that was not.
      independent_rows: False of an attack that shares draws over the batch, as Square does.

    Raises:
      BrokenRule: names the first rule that does not hold.

    Example:
      >>> from robustjax import attacks
      >>> check_attack(attacks.PGD(steps=2))
    """
    subject = f"attack {attack if isinstance(attack, str) else _name(attack)}"
    value: Any = attacks.create(attack) if isinstance(attack, str) else attack
    require(callable(value), subject, f"{value!r:.60} cannot be called")
    require(not isinstance(value, type), subject, "it is a class; check a value of it, as Name()")
    one_key = isinstance(value, FunctionAttack) or not dataclasses.is_dataclass(value)
    if not one_key:
        frozen = type(value).__dataclass_params__.frozen
        require(frozen, subject, "its dataclass is not frozen, and so cannot be hashed")
    tried = norms_of(attack) if norms is None else tuple(norms)
    for norm in tried:
        for epsilon in (_RADII.get(norm, 1.0), 0.0):
            _check_in(value, subject, attacks.ThreatModel(norm, epsilon))
    if not one_key:
        _check_keys(value, subject, tried[0], independent_rows)


def _name(attack: Any) -> str:
    return getattr(attack, "__name__", type(attack).__name__)


def _logits_fn(images: jax.Array) -> jax.Array:
    return jnp.asarray(images).reshape(len(images), -1) @ linear_weights()


def _run(attack: Any, subject: str, key: jax.Array, images: Any, threat: Any) -> Any:
    """The result of an attack, of the kind that the contract says."""
    images, labels = jnp.asarray(images), jnp.asarray(some_labels())
    found = attack(key, _logits_fn, images, labels, threat)
    try:
        return as_result(found, _logits_fn, images, labels)
    except UserError as error:
        broken(subject, str(error).removeprefix("attack: "))


def _check_in(attack: Any, subject: str, threat: Any) -> None:
    clean, key = images_near_the_edges(), jax.random.key(0)
    found = _run(attack, subject, key, clean, threat)
    require_rows(found.images, subject, "its images", (BATCH, *SHAPE), jnp.floating)
    require_rows(found.success, subject, "its success", (BATCH,), np.bool_)
    require_rows(found.backward_passes, subject, "its backward_passes", (BATCH,), np.integer)
    inside = is_inside(np.asarray(found.images), clean, threat.norm, threat.epsilon, threat.bounds)
    require(
        inside.all(),
        subject,
        f"{(~inside).sum()} of {BATCH} images lie outside of the {threat.norm} ball of radius "
        f"{threat.epsilon:g} or of the box {threat.bounds}; threat.project brings them back, and "
        "an attack of fewer norms says so: norms=",
    )
    wrong = misclassified(np.asarray(_logits_fn(found.images)), some_labels())
    require(
        np.array_equal(np.asarray(found.success), wrong),
        subject,
        "its success is not what the network says of its images",
    )
    again = _run(attack, subject, key, clean, threat)
    require(same(found, again), subject, "the same key gives other images")


def _check_keys(attack: Any, subject: str, norm: str, independent_rows: bool) -> None:
    """One key per example."""
    threat = attacks.ThreatModel(norm, 0.1)
    keys = jax.random.split(jax.random.key(1), BATCH)
    clean, others = images_near_the_edges(), images_near_the_edges(seed=5)
    try:
        found = _run(attack, subject, keys, clean, threat)
    except (TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        broken(subject, f"it does not take one key per example, [B] ({first})")
    if independent_rows:
        company = np.where(KEPT.reshape(-1, 1, 1, 1), clean, others)
        require(
            same(found.images, _run(attack, subject, keys, company, threat).images, KEPT, 1e-5),
            subject,
            "an example is attacked otherwise in other company, though its key is the same",
        )
