"""The attacks there are: what each is made for, and how one is added."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import own_code
from robustjax.arguments import (
    checked_function,
    kind,
    refusal,
    require_free_name,
    shown,
)
from robustjax.attacks.apgd import APGD, APGDTargeted
from robustjax.attacks.autoattack.autoattack import AutoAttack
from robustjax.attacks.citations import CITATIONS
from robustjax.attacks.cw import CW
from robustjax.attacks.deepfool import DeepFool
from robustjax.attacks.engine.rows import misclassified
from robustjax.attacks.fab import FABTargeted
from robustjax.attacks.fgsm import FGSM
from robustjax.attacks.pgd import PGD
from robustjax.attacks.random_noise import RandomNoise
from robustjax.attacks.result import AttackResult
from robustjax.attacks.spsa import SPSA
from robustjax.attacks.square import Square
from robustjax.attacks.threat_model import NORMS


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
    norms: tuple[str, ...] = NORMS
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
    "malt": Entry(
        APGDTargeted, "malt", fixed={"order": "nearest"}, form="malt (apgd-t, nearest class first)"
    ),
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
        AutoAttack,
        "autoattack",
        fixed={"version": "rand"},
        fewest_classes=3,
        form="autoattack-rand",
    ),
}


GRADIENT_STEPS = ("fgsm", "fgsm-random", "pgd", "cw")
"""Take as many gradient steps on every example as their name says, and leave none of them alone."""


def accepted(kinds: Sequence[str] | None = None) -> str:
    """How names are written, for messages and help.

    Args:
      kinds: of attacks; all if not given.
    """
    return ", ".join(ENTRIES[kind].form for kind in (names() if kinds is None else kinds))


def names() -> tuple[str, ...]:
    """The kinds of attacks there are, as their names begin."""
    return tuple(name for name in ENTRIES if not own_code.is_own(name))


def register(
    name: str,
    attack: Any = None,
    *,
    norms: Sequence[str] = NORMS,
    fewest_classes: int = 2,
    citation: str = "",
) -> Any:
    """Adds an attack to those that `create`, evaluations and command lines know.

    Args:
      name: that it gets.
      attack: a frozen dataclass that is called as the attacks of this package, whose fields then
        are settings that a name may say; or a function, called likewise, which has none, is given
        one key whatever the number of images, and may return the adversarial images alone. Not
        given, a decorator of such a class or function is returned.
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
    _add(name, attack, tuple(norms), fewest_classes, citation)
    return attack


def _add(
    name: str,
    attack: Any,
    norms: tuple[str, ...] = NORMS,
    fewest_classes: int = 2,
    citation: str = "",
) -> None:
    checked_function("attack", attack, "frozen dataclasses and functions")
    if isinstance(attack, type) and not dataclasses.is_dataclass(attack):
        raise refusal(
            f"attack={name}", f"the class {attack.__name__}", "frozen dataclasses and functions"
        )
    made = attack if isinstance(attack, type) else FunctionAttack
    fixed = {} if isinstance(attack, type) else {"function": attack}
    ENTRIES[name] = Entry(made, name, (), 0, fixed, norms, fewest_classes, name)
    CITATIONS[name] = citation


def load_own(name: str) -> None:
    """Adds an attack of a user's, "package.module:attack", to the entries, if it is not there.

    Raises:
      ValueError: no person has named it, or there is no such code.
    """
    if name not in ENTRIES:
        trusted = own_code.is_trusted(name)
        _add(str(name), own_code.load("attack", name if trusted else own_code.FromFile(name)))


@dataclasses.dataclass(frozen=True)
class FunctionAttack:
    """A function as an attack without settings."""

    function: Callable[..., Any]

    def __call__(
        self, key: jax.Array, logits_fn: Callable[..., jax.Array], *arguments: Any
    ) -> AttackResult:
        """Attacks images."""
        one_key = key if key.ndim == _axes_of_one(key) else key[0]
        return as_result(self.function(one_key, logits_fn, *arguments), logits_fn, *arguments)


def is_users(attack: Any) -> bool:
    """Whether an attack is a user's, and not of this package."""
    ours = type(attack).__module__.startswith("robustjax.")
    return isinstance(attack, FunctionAttack) or not ours


def _axes_of_one(key: jax.Array) -> int:
    return 0 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 1


def as_result(
    found: Any,
    logits_fn: Callable[..., jax.Array],
    images: jax.Array,
    labels: jax.Array,
    threat: Any = None,
) -> AttackResult:
    """What an attack of a user's gives, as a result: of images alone the network says the rest.

    Args:
      found: an `AttackResult`, or adversarial images.
      logits_fn: the network that was attacked.
      images: [B, ...], the clean ones.
      labels: [B].
      threat: not looked at.

    Raises:
      ValueError: it is neither, or has not the shape of the images.
    """
    result = isinstance(found, AttackResult)
    perturbed = found.images if result else found
    accepted = f"an AttackResult, or images [{', '.join(map(str, np.shape(images)))}]"
    if not hasattr(perturbed, "dtype"):
        raise refusal("attack: what it gives", shown(perturbed), accepted)
    if perturbed.shape != np.shape(images) or not jnp.issubdtype(perturbed.dtype, jnp.floating):
        raise refusal("attack: what it gives", kind(perturbed), accepted)
    if result:
        return found
    perturbed = jnp.asarray(perturbed)
    return AttackResult(
        images=perturbed,
        success=misclassified(logits_fn(perturbed), labels),
        backward_passes=jnp.zeros(len(perturbed), jnp.int32),
    )
