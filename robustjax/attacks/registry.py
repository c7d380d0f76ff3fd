"""The attacks there are: what each is made for, and how one is added."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.arguments import (
    checked_function,
    require_free_name,
)
from robustjax.attacks.apgd import APGD, APGDTargeted
from robustjax.attacks.autoattack.autoattack import AutoAttack
from robustjax.attacks.citations import CITATIONS
from robustjax.attacks.cw import CW
from robustjax.attacks.deepfool import DeepFool
from robustjax.attacks.fab import FABTargeted
from robustjax.attacks.fgsm import FGSM
from robustjax.attacks.pgd import PGD
from robustjax.attacks.random_noise import RandomNoise
from robustjax.attacks.result import AttackResult
from robustjax.attacks.spsa import SPSA
from robustjax.attacks.square import Square


class Entry(NamedTuple):
    """How the registry knows a kind of attack.

    Attributes:
      attack: makes the value.
      paper: key of the citation.
      numbers: the settings that the numbers in a name are, as K and R of pgd-KxR; the last may be
        left out where `optional` says so.
      optional: how many of the last numbers may be left out.
      fixed: the settings that the name stands for.
      norms: of the balls that it is made for.
      fewest_classes: for which it is defined.
      form: how a name is written, for a message.
    """

    attack: type
    paper: str
    numbers: tuple[str, ...] = ()
    optional: int = 0
    fixed: Mapping[str, Any] = {}
    norms: tuple[str, ...] = ("linf", "l2")
    fewest_classes: int = 2
    form: str = ""


ENTRIES: dict[str, Entry] = {
    "random": Entry(RandomNoise, "fgsm", ("draws",), form="random-N (of N points the worst)"),
    "fgsm": Entry(FGSM, "fgsm", form="fgsm"),
    "fgsm-random": Entry(
        FGSM, "fgsm", fixed={"start": "uniform"}, form="fgsm-random (from a random start)"
    ),
    "pgd": Entry(PGD, "pgd", ("steps", "restarts"), 1, form="pgd-K, pgd-KxR (R restarts)"),
    "cw": Entry(CW, "cw", ("steps", "restarts"), 1, norms=("linf",), form="cw-K, cw-KxR"),
    "apgd-ce": Entry(APGD, "autoattack", fixed={"loss": "ce"}, form="apgd-ce"),
    "apgd-dlr": Entry(APGD, "autoattack", fixed={"loss": "dlr"}, fewest_classes=3, form="apgd-dlr"),
    "apgd-t": Entry(APGDTargeted, "autoattack", form="apgd-t"),
    "fab-t": Entry(FABTargeted, "fab", form="fab-t"),
    "square": Entry(Square, "square", form="square"),
    "spsa": Entry(
        SPSA,
        "spsa",
        ("steps", "samples"),
        2,
        norms=("linf",),
        form="spsa (100 steps of 8192 points), spsa-KxN",
    ),
    "deepfool": Entry(DeepFool, "deepfool", form="deepfool"),
    "autoattack": Entry(AutoAttack, "autoattack", fixed={"version": "standard"}, form="autoattack"),
    "autoattack-rand": Entry(
        AutoAttack, "autoattack", fixed={"version": "rand"}, form="autoattack-rand"
    ),
}


GRADIENT_STEPS = ("fgsm", "fgsm-random", "pgd", "cw")
"""Take as many gradient steps on every example as their name says, and leave none of them alone."""


def accepted(kinds: Sequence[str] | None = None) -> str:
    """How names are written, for messages and help.

    Args:
      kinds: of attacks; all if not given.
    """
    return ", ".join(ENTRIES[kind].form for kind in (ENTRIES if kinds is None else kinds))


def names() -> tuple[str, ...]:
    """The kinds of attacks there are, as their names begin."""
    return tuple(ENTRIES)


def register(
    name: str,
    attack: Any = None,
    *,
    norms: Sequence[str] = ("linf", "l2"),
    fewest_classes: int = 2,
    citation: str = "",
) -> Any:
    """Adds an attack to those that `create`, evaluations and command lines know.

    Args:
      name: that it gets.
      attack: a frozen dataclass that is called as the attacks of this package, whose fields then
        are settings that a name may say; or a function, called likewise, which has none. Not given,
        a decorator of such a class or function is returned.
      norms: of the balls that it is made for.
      fewest_classes: for which it is defined.
      citation: the BibTeX entry of its paper.

    Returns:
      `attack`.

    Raises:
      ValueError: the name is taken, or the attack cannot be called.
    """
    require_free_name("attack", name, (*ENTRIES, "clean"))
    if attack is None:
        return functools.partial(
            register, name, norms=norms, fewest_classes=fewest_classes, citation=citation
        )
    checked_function("attack", attack, "frozen dataclasses and functions")
    made = attack if isinstance(attack, type) else _Function
    fixed = {} if isinstance(attack, type) else {"function": attack}
    ENTRIES[name] = Entry(made, name, (), 0, fixed, tuple(norms), fewest_classes, name)
    CITATIONS[name] = citation
    return attack


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function as an attack without settings."""

    function: Callable[..., AttackResult]

    def __call__(self, *arguments: Any) -> AttackResult:
        """Attacks images."""
        return self.function(*arguments)
