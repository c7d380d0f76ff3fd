"""An attack's name, read and written: `pgd-20x5(step_size=2/255,start=clean)`.

A name is that of a kind with its numbers, and settings of its own behind it in parentheses.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from robustjax import own_code
from robustjax.arguments import LARGEST_COUNT, did_you_mean, nearest, require_choice, shown
from robustjax.attacks.attack import Attack
from robustjax.attacks.autoattack.autoattack import AutoAttack
from robustjax.attacks.citations import CITATIONS, IN_L1, USED_IN_L1
from robustjax.attacks.registry import ENTRIES, Entry, accepted, is_users, load_own, names
from robustjax.attacks.spsa import SPSA
from robustjax.attacks.threat_model import NORMS, ThreatModel
from robustjax.errors import UserError
from robustjax.text import format_value, parse_literal

# With which an attack would not move.
_ABOVE_ZERO = ("step_size", "delta", "learning_rate")

# The text of a setting says nothing of these: a rule of stopping, a function.
_NOT_BY_NAME = ("stop",)

_NAME = re.compile(r"(?P<plain>[^()]*)(?:\((?P<settings>.*)\))?", re.DOTALL)


class Named(NamedTuple):
    """An attack by its name.

    Attributes:
      kind: the key of its entry.
      attack: the value.
      given: the settings that the name says.
    """

    kind: str
    attack: Attack
    given: frozenset[str]


def create(name: str, /, **settings: Any) -> Attack:
    """An attack by its name.

    Args:
      name: of a kind with its numbers, such as "pgd-20" or "apgd-t"; perhaps with settings behind
        it, as in "pgd-7(step_size=2/255,start=clean)"; or code of one's own,
        "package.module:attack", see `register`.
      **settings: further ones, fields of the attack.

    Returns:
      A frozen dataclass, called as `attack(key, logits_fn, images, labels, threat)`.

    Raises:
      ValueError: there is no such attack, or it has no such setting, or one is given twice.

    Example:
      >>> create("pgd-20x5", step_size=0.01).restarts
      5
    """
    trust(name)
    return parse(name, settings).attack


def trust(*names: Any) -> None:
    """Lets the attacks be run that names of code stand for, since a person has written the names.

    Args:
      *names: as for `create`; those of another kind are not looked at.
    """
    plain = [str(name).partition("(")[0] for name in names]
    own_code.trust(*(name for name in plain if own_code.is_own(name)))


def parse(name: str, settings: Mapping[str, Any] | None = None) -> Named:
    """What a name stands for. Code is loaded only if a person has named it, see `trust`.

    Args:
      name: as for `create`.
      settings: further ones.

    Raises:
      ValueError: as for `create`; the message names the nearest attack.
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise _unknown(name)
    kind, numbers = _kind_and_numbers(name, match["plain"])
    entry = ENTRIES[kind]
    written = _written_settings(name, entry, match["settings"])
    given = dict(numbers)
    for more in (written, settings or {}):
        for setting, value in more.items():
            _require_setting(name, entry, setting)
            if setting in given or setting in entry.fixed:
                raise UserError(f"attack={shown(name)}: {setting} is given twice")
            given[setting] = value
    attack = entry.attack(**{**entry.fixed, **given})
    _require_even(name, attack)
    if written or settings:
        _require_accepted(name, attack, entry.norms)
    return Named(kind, attack, frozenset(given))


def name_of(attack: Any) -> str:
    """The name of an attack's value; `create` makes an equal one of it.

    Raises:
      ValueError: it is none of the registry's, or has a setting that no name can say.
    """
    kind = _kind_of(attack)
    if kind is not None:
        return _name(kind, ENTRIES[kind], attack)
    raise UserError(f"{attack!r:.80} is no attack of the registry: {', '.join(names())}")


def norms_of(attack: Any) -> tuple[str, ...]:
    """The norms of the balls that an attack is registered for; all of them if it is not.

    Args:
      attack: its value, its function, or its name.

    Raises:
      ValueError: there is no attack of that name.
    """
    kind = parse(attack).kind if isinstance(attack, str) else _kind_of(attack)
    return NORMS if kind is None else ENTRIES[kind].norms


def _kind_of(attack: Any) -> str | None:
    """The key of an attack's entry; None if it is not registered."""
    fitting = [kind for kind, entry in ENTRIES.items() if _is_of(attack, entry)]
    # Of several, as of FGSM from a random start, the one that says most by itself.
    return max(fitting, key=lambda kind: len(ENTRIES[kind].fixed)) if fitting else None


def _is_of(attack: Any, entry: Entry) -> bool:
    if "function" in entry.fixed and attack is entry.fixed["function"]:
        return True
    return type(attack) is entry.attack and all(
        getattr(attack, field) == value for field, value in entry.fixed.items()
    )


def is_known(name: Any) -> bool:
    """Whether an attack is called so."""
    try:
        parse(name)
    except ValueError:
        return name in ENTRIES
    return True


def cite(kind: str, norm: str = "linf") -> str:
    """The BibTeX entry of the paper that an attack comes from, in l1 also of its form there.

    Args:
      kind: one of `names()`, also with its numbers.
      norm: of the ball, "linf", "l2" or "l1".

    Raises:
      ValueError: there is no such attack, or no such norm.
    """
    require_choice("norm", norm, NORMS)
    if kind not in ENTRIES:
        kind = parse(kind).kind
    paper = ENTRIES[kind].paper
    return CITATIONS[paper] + (IN_L1 if norm == "l1" and paper in USED_IN_L1 else "")


def _kind_and_numbers(name: str, plain: str) -> tuple[str, dict[str, int]]:
    """The kind of a name without its parentheses, and the settings that its numbers are."""
    if own_code.is_own(plain):
        load_own(plain)
    if plain in ENTRIES:
        entry = ENTRIES[plain]
        if len(entry.numbers) > entry.optional:
            raise _unknown(name)
        return plain, {}
    for kind, entry in ENTRIES.items():
        match = re.fullmatch(rf"{re.escape(kind)}-([0-9]+)(?:x([0-9]+))?", plain)
        if match is None or not entry.numbers:
            continue
        found = [number for number in match.groups() if number is not None]
        least = 2 if kind == "spsa" else 1
        if least <= len(found) <= len(entry.numbers):
            counts = [_count(name, number) for number in found]
            return kind, dict(zip(entry.numbers, counts, strict=False))
    raise _unknown(name)


def _count(name: str, text: str) -> int:
    """A number in an attack's name: of steps, restarts or points."""
    if len(text) > len(str(LARGEST_COUNT)) or not 1 <= int(text) <= LARGEST_COUNT:
        raise UserError(f"attack={shown(name)}: accepted are whole numbers, 1 to {LARGEST_COUNT}")
    return int(text)


def _written_settings(name: str, entry: Entry, text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if text is None:
        return found
    for part in text.split(","):
        setting, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            raise UserError(
                f"attack={shown(name)}: {shown(part)} is no setting; accepted is NAME=VALUE, "
                "between commas"
            )
        _require_setting(name, entry, setting)
        if setting in found:
            raise UserError(f"attack={shown(name)}: {setting} is given twice")
        found[setting] = _value(name, entry, setting, value)
    return found


def settings_of(entry: Entry) -> tuple[str, ...]:
    """The settings of a kind of attack that a name may say."""
    fields = (field.name for field in dataclasses.fields(entry.attack))
    return tuple(name for name in fields if name not in (*entry.fixed, *_NOT_BY_NAME))


def _require_setting(name: str, entry: Entry, setting: str) -> None:
    known = tuple(field.name for field in dataclasses.fields(entry.attack))
    if setting not in known:
        accepted = settings_of(entry)
        raise UserError(
            f"attack={shown(name)}: {shown(setting)} is no setting of it; accepted are "
            f"{', '.join(accepted) or 'none'}{did_you_mean(setting, accepted)}"
        )


def _value(name: str, entry: Entry, setting: str, text: str) -> Any:
    """A setting's value as its type says it is."""
    if setting in _NOT_BY_NAME:
        raise UserError(f"attack={shown(name)}: {setting} cannot be given by name")
    kinds = _types(typing.get_type_hints(entry.attack)[setting])
    value = parse_literal(text)
    if value is None and type(None) in kinds:
        return None
    if bool in kinds and isinstance(value, bool):
        return value
    if not isinstance(value, bool):
        if int in kinds and isinstance(value, int):
            return value
        if float in kinds and isinstance(value, int | float):
            return float(value)
        if str in kinds and isinstance(value, str):
            return value
    words = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    accepted = " or ".join(words[kind] for kind in words if kind in kinds)
    raise UserError(f"attack={shown(name)}: {setting} is {shown(text)}; accepted is {accepted}")


def _types(hint: Any) -> Sequence[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _require_even(name: str, attack: Any) -> None:
    if isinstance(attack, SPSA) and attack.samples % 2:
        raise UserError(f"attack={shown(name)}: the points of spsa-KxN are an even number")


def _require_accepted(name: str, attack: Any, norms: Sequence[str]) -> None:
    """Lets the attack check its settings: it is traced on a network of no use, and not run.

    Some settings mean something under one norm alone: what one ball of its norms accepts is
    accepted, and of several complaints it is the first that is told.
    """
    if isinstance(attack, AutoAttack) or is_users(attack):
        return
    for field in dataclasses.fields(attack):
        value = getattr(attack, field.name)
        above_zero = field.name in _ABOVE_ZERO
        if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
            raise UserError(
                f"attack={shown(name)}: {field.name} is {value:g}; accepted are numbers, 0 or more"
            )
        if above_zero and value == 0:
            raise UserError(
                f"attack={shown(name)}: {field.name} is 0; accepted are numbers above 0"
            )
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)
    labels = jax.ShapeDtypeStruct((2,), np.int32)

    def attacked(norm: str, images: jax.Array, labels: jax.Array) -> jax.Array:
        def network(images: jax.Array, *_: jax.Array) -> jax.Array:
            return images.reshape(len(images), -1)[:, :10]

        threat = ThreatModel(norm, 0.1)
        return attack(jax.random.key(0), network, images, labels, threat).images

    complaints = []
    for norm in norms:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                jax.eval_shape(functools.partial(attacked, norm), images, labels)
            return
        except ValueError as error:
            complaints.append(error)
    raise UserError(f"attack={shown(name)}: not accepted ({complaints[0]})")


def _name(kind: str, entry: Entry, attack: Any) -> str:
    default = entry.attack(**entry.fixed)
    numbers = [getattr(attack, field) for field in entry.numbers]
    said = list(entry.numbers)
    if kind == "spsa":
        if numbers == [getattr(default, field) for field in entry.numbers]:
            numbers = []
    elif len(numbers) == 2 and numbers[1] == 1:
        numbers.pop()
    plain = "-".join([kind, *(["x".join(map(str, numbers))] if numbers else [])])
    others = [
        field.name
        for field in dataclasses.fields(attack)
        if field.name not in (*said, *entry.fixed)
        and getattr(attack, field.name) != getattr(default, field.name)
    ]
    for setting in set(others) & set(_NOT_BY_NAME):
        raise UserError(f"{setting} is {getattr(attack, setting)!r:.60}, which no name can say")
    values = [f"{name}={_as_text(getattr(attack, name))}" for name in others]
    return plain + (f"({','.join(values)})" if values else "")


def _as_text(value: Any) -> str:
    if callable(value):
        return value.__name__
    return "none" if value is None else format_value(value)


def _unknown(name: Any) -> UserError:
    return UserError(
        f"attack={shown(name)}: accepted are clean, {accepted()}, and {own_code.FORM} of your own"
        f"{_hint(name)}"
    )


def _hint(name: Any) -> str:
    """The nearest attack: that of the letters, with the numbers as they were written."""
    text = str(name).partition("(")[0]
    plain = ("clean", *(kind for kind, entry in ENTRIES.items() if not entry.numbers))
    numbered = tuple(kind for kind, entry in ENTRIES.items() if entry.numbers)
    letters = re.match(r"[A-Za-z_-]*[A-Za-z]", text)
    numbers = re.findall("[0-9]+", text[letters.end() :] if letters else text)
    kind = nearest(letters[0], numbered) if letters else None
    near = nearest(text, plain)
    if kind is not None and numbers:
        near = f"{kind}-{'x'.join(numbers[: len(ENTRIES[kind].numbers)])}"
    elif kind is not None and (near is None or text.lower() == kind):
        near = {"spsa": "spsa", "random": "random-8"}.get(kind, f"{kind}-20")
    return "" if near is None else f"; did you mean {near!r}?"
