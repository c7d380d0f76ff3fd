"""What a state dict is: whose layout, what stands in front of its names, what it tells."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from robustjax.errors import UserError
from robustjax.interop.layouts import Family, Layout, family_of
from robustjax.interop.transposition import COUNTER, floats

_OF_LARGE_IMAGES = (7, 7)
"""The kernel of a stem of ImageNet's."""

_BUFFERS = (("mean", "std"), ("mu", "sigma"))
"""What projects call the numbers that they normalise images with."""


class Recognized(NamedTuple):
    """A state dict, its names as a layout has them.

    Attributes:
        family: of the network.
        layout: that it is written in.
        named: name, without what stood in front of all of them -> array; without what nothing
            here needs.
        normalization: "mean" and "std", if it has them.
        left_over: names that belong to nothing.
    """

    family: Family
    layout: Layout
    named: dict[str, Any]
    normalization: dict[str, tuple[float, ...]]
    left_over: tuple[str, ...]

    def weight_of(self, layer: str) -> str:
        """The name there of the weight of a layer here."""
        return f"{self.layout.rename(layer)}.weight"

    def told_options(self) -> dict[str, Any]:
        """What it says of how its network begins, pads and normalises, if that is not as usual."""
        told: dict[str, Any] = {}
        if self.layout.stride_padding != "torch":
            told["stride_padding"] = self.layout.stride_padding
        if np.shape(self.named.get(self.weight_of(self.family.stem), ()))[2:] == _OF_LARGE_IMAGES:
            told["stem"] = "imagenet"
        mean, std = self.normalization.get("mean", ()), self.normalization.get("std", ())
        usual = set(mean) <= {0.0} and set(std) <= {1.0}
        return told if usual else {**told, "mean": mean, "std": std}


def recognize(model_name: str, state_dict: Mapping[str, Any]) -> Recognized:
    """Finds the layout of a network that fits a state dict best.

    Raises:
        ValueError: it is none, or no layout of the network is known.
    """
    family = family_of(model_name)
    if not isinstance(state_dict, Mapping) or not all(isinstance(name, str) for name in state_dict):
        raise UserError(f"state_dict={type(state_dict).__name__}: accepted are names -> arrays")
    read = [_read_as(family, layout, state_dict) for layout in family.layouts]
    return max(read, key=_fitting_layers)


def _read_as(family: Family, layout: Layout, state_dict: Mapping[str, Any]) -> Recognized:
    prefix = _prefix(state_dict, f"{layout.rename(family.head)}.weight")
    named: dict[str, Any] = {}
    outside: dict[str, str] = {}
    left_over: list[str] = []
    for name, value in state_dict.items():
        own = name.removeprefix(prefix)
        last = own.rpartition(".")[2]
        if any(last in pair for pair in _BUFFERS):
            outside[last] = name
        elif last == COUNTER or any(own.startswith(group) for group in layout.unused):
            continue
        elif name.startswith(prefix):
            named[own] = value
        else:
            left_over.append(name)
    normalization: dict[str, tuple[float, ...]] = {}
    for pair in _BUFFERS:
        if all(part in outside for part in pair):
            for option, part in zip(("mean", "std"), pair, strict=True):
                name = outside.pop(part)
                normalization[option] = _numbers(name, state_dict[name])
    return Recognized(family, layout, named, normalization, (*left_over, *outside.values()))


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """Float32 numbers as the shortest decimals that are theirs."""
    return tuple(float(str(number)) for number in floats(name, value).reshape(-1))


def _prefix(names: Iterable[str], head: str) -> str:
    """What stands in front of the names of a network, told by that of its last layer."""
    names = list(names)
    found = [name.removesuffix(head) for name in names if name.endswith(head)]
    found = [prefix for prefix in found if prefix == "" or prefix.endswith(".")]
    if found:
        return min(found, key=len)
    shared = re.match(r"((module|model|net|_orig_mod)\.)*", names[0] if names else "")
    prefix = shared[0] if shared else ""
    return prefix if all(name.startswith(prefix) for name in names) else ""


def _fitting_layers(found: Recognized) -> int:
    """How many of a few layers that every network of the family has are named as in a layout."""
    layers = {name.rpartition(".")[0] for name in found.named}
    known = set()
    for place in ("", "block1_layer_0/", "layer1_0/"):
        for part in ("conv1", "bn1", found.family.stem, found.family.head):
            try:
                known.add(found.layout.rename(place + part))
            except KeyError:
                continue
    return len(layers & known)


def is_told(given: Any, told: Any) -> bool:
    """Whether an option that was given is what a state dict tells, numbers up to rounding."""
    if isinstance(told, str):
        return bool(given == told)
    numbers = np.asarray(given, np.float64).reshape(-1)
    return numbers.shape == (len(told),) and bool(np.allclose(numbers, told, rtol=1e-6, atol=0))
