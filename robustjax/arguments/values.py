"""Names, choices and numbers: what every part of the package checks, and how it says so."""

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from robustjax.errors import UserError

LARGEST_COUNT = 2**31 - 1
"""Of steps, restarts, points, examples, epochs: what the int32 of a compiled program holds."""

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
"""A number beyond it is infinite in a compiled program."""

MOST_CPU_DEVICES = 1024
"""That a process is divided into; more take minutes to start."""

LARGEST_SEED = 2**32 - 1
"""JAX keeps 32 bits of a seed: beyond this, two seeds would be one."""

_SHORT_FORMS = {
    "aa": "autoattack",
    "alpha": "step_size",
    "amp": "precision",
    "arch": "model",
    "architecture": "model",
    "attack": "attacks",
    "attack_iters": "steps",
    "batch": "batch_size",
    "bs": "batch_size",
    "data": "dataset",
    "dtype": "precision",
    "eps": "epsilon",
    "gpus": "devices",
    "iters": "steps",
    "iterations": "steps",
    "lambda": "beta",
    "lamda": "beta",
    "logdir": "workdir",
    "lr": "learning_rate",
    "net": "model",
    "network": "model",
    "num_epochs": "epochs",
    "num_steps": "steps",
    "opt": "optimizer",
    "out": "output",
    "out_dir": "workdir",
    "outdir": "workdir",
    "output": "workdir",
    "pgd_steps": "steps",
    "random_seed": "seed",
    "resume": "workdir",
    "save_dir": "workdir",
    "scheduler": "schedule",
    "val": "holdout",
    "wd": "weight_decay",
}
"""What other codebases call an option -> what it is called here."""


def nearest(name: Any, known: Iterable[str]) -> str | None:
    """The known name that a person who wrote `name` most likely meant; None if none is near.

    Args:
      name: what was written.
      known: the names there are.
    """
    known = list(dict.fromkeys(known))
    text = str(name)
    by_case = {other.lower(): other for other in known}
    meant = by_case.get(text.lower()) or _SHORT_FORMS.get(text.lower())
    if meant in known:
        return meant
    wanted = text.lower().replace("-", "_")
    spelled = {other.lower().replace("-", "_"): other for other in known}
    if wanted in spelled:
        return spelled[wanted]
    close = difflib.get_close_matches(text.lower(), by_case, n=1)
    if close:
        return by_case[close[0]]
    initials = [other for other in known if _initials(other) == wanted and len(wanted) > 1]
    beginnings = [other for other in known if len(wanted) > 2 and other.lower().startswith(wanted)]
    return next(iter([*initials, *beginnings]), None)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """The end of a message, as "; did you mean 'pgd-20'?"; nothing if no known name is near."""
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def unknown_flag(name: str, known: Iterable[str]) -> str:
    """What is said of a flag that there is not.

    Args:
      name: as it was written, without the dashes.
      known: the flags there are.
    """
    near = nearest(name, known)
    hint = "--help lists those there are" if near is None else f"did you mean --{near}?"
    return f"--{name}: there is no such flag; {hint}"


def refusal(name: str, came: str, accepted: str) -> UserError:
    """The error that says what came as an argument, and what is accepted; to be raised.

    Args:
      name: of the argument.
      came: what was given, as text.
      accepted: what would be accepted, after "accepted are".
    """
    return UserError(f"{name}={came}: accepted are {accepted}")


def require_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuses what is not one of a few values.

    Args:
      name: of the argument or the flag, for the message.
      value: what was given.
      choices: what is accepted.

    Raises:
      ValueError: names the argument, the value, the choices, and the nearest of them.
    """
    value = plain(value)
    same_kind = [
        choice for choice in choices if isinstance(choice, bool) == isinstance(value, bool)
    ]
    if any(type(choice) is type(value) and choice == value for choice in same_kind):
        return
    accepted = ", ".join(str(choice) if choice != "" else "'' (not given)" for choice in choices)
    hint = did_you_mean(value, [choice for choice in choices if isinstance(choice, str) and choice])
    raise refusal(name, shown(value), f"{accepted}{hint}")


def require_whole(
    name: str, value: Any, least: int = 0, most: float = LARGEST_COUNT, accepted: str = ""
) -> None:
    """Refuses what is not a whole number in [least, most].

    Args:
      name: of the argument or the flag, for the message.
      value: what was given.
      least: the smallest number accepted.
      most: the largest.
      accepted: what is, in words, where that says more than the range.

    Raises:
      ValueError: names the argument, the value and the range.
    """
    if not is_whole(value) or not least <= int(value) <= most:
        accepted = accepted or f"whole numbers, {least} to {most}"
        raise refusal(name, shown(value), accepted)


def require_finite(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, accepted: str = ""
) -> None:
    """Refuses what is not a finite number in [least, most].

    Args:
      name: of the argument or the flag, for the message.
      value: what was given.
      least: the smallest number accepted.
      most: the largest.
      accepted: what is, in words, where that says more than the range.

    Raises:
      ValueError: names the argument, the value and the range.
    """
    if is_number(value) and is_finite(value) and least <= plain(value) <= most:
        return
    if not accepted:
        limits = [f"at least {least:g}"] * math.isfinite(least)
        limits += [f"at most {most:g}"] * math.isfinite(most)
        accepted = f"finite numbers{', ' if limits else ''}{' and '.join(limits)}"
    raise refusal(name, shown(value), accepted)


def checked_count(name: str, value: Any, least: int) -> int:
    """As an int, a whole number of Python or NumPy that a compiled program can count.

    Raises:
      ValueError: it is none, or less than the least.
    """
    require_whole(name, value, least)
    return int(value)


def checked_number(name: str, value: Any, least: float, most: float = math.inf) -> float:
    """As a float, a finite number of Python or NumPy in [least, most].

    Raises:
      ValueError: it is none, such as an array, or lies outside.
    """
    require_finite(name, value, least, most)
    return float(value)


def checked_function(name: str, value: Any, accepted: str) -> Callable[..., Any]:
    """What can be called.

    Raises:
      ValueError: it cannot.
    """
    if not callable(value):
        raise refusal(name, shown(value), accepted)
    return value


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of Python or NumPy by its type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number of Python or NumPy, which a truth value is not."""
    real = isinstance(value, int | float | np.integer | np.floating)
    return real and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """A number or truth value of NumPy as Python's; whatever else as it is."""
    return value.item() if isinstance(value, np.number | np.bool_) else value


def require_truth(name: str, value: Any) -> None:
    """Refuses what is neither True nor False, of Python or NumPy: a text is always true.

    Raises:
      ValueError: names the argument and the value.
    """
    require_choice(name, value, (True, False))


def is_finite(value: float) -> bool:
    """Whether a number is finite, and a whole one no larger than a float can be."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_free_name(kind: str, name: Any, taken: Iterable[str]) -> None:
    """Refuses a name under which nothing can be registered.

    Args:
      kind: of what is to be registered, for the message.
      name: that it is to have.
      taken: the names that there are.

    Raises:
      ValueError: it is no name of letters, digits, "_" and "-", or it is taken.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        raise UserError(
            f"name={shown(name)}: accepted are names of letters, digits, _ and -, as my_{kind}"
        )
    if name in taken:
        raise UserError(f"name={name}: a {kind} is called so already; choose another name")


def _initials(name: str) -> str:
    return "".join(part[0] for part in re.split(r"[_\-]", name.lower()) if part)


def kind(array: Any) -> str:
    """What a message says an array is: its dtype and its shape, as "float32[3, 2]"."""
    return f"{array.dtype}{list(array.shape)}"


def shown(value: Any) -> str:
    """A value in a message; a long one is cut."""
    value = plain(value)
    if getattr(value, "shape", None) == ():
        with contextlib.suppress(TypeError):  # Of what JAX traces, which has no value yet.
            value = value.item()
    try:
        bare = isinstance(value, int | float) or (isinstance(value, str) and value.isprintable())
        text = str(value) if bare else " ".join(repr(value).split())
    except ValueError:  # Python writes no whole number of more than 4300 digits.
        if not isinstance(value, int):
            return f"({type(value).__name__} with a number of thousands of digits)"
        return f"(a number of some {round(value.bit_length() * math.log10(2))} digits)"
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"
