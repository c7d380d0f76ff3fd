"""Networks by name: which there are, what each is, and how a name and options become a module."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from robustjax import own_code
from robustjax.arguments import (
    did_you_mean,
    plain,
    refusal,
    require_finite,
    require_free_name,
    require_truth,
    require_whole,
    shown,
)
from robustjax.errors import UserError
from robustjax.models.cifar_resnet import CifarResNet
from robustjax.models.digits_cnn import DigitsCNN
from robustjax.models.fat_small_cnn import FatSmallCNN
from robustjax.models.layers import Layers
from robustjax.models.madry_resnet import MadryResNet
from robustjax.models.mnist_cnn import MadryMnistCNN, SenseMnistCNN
from robustjax.models.preact_resnet import PreActResNet18
from robustjax.models.resnet import ResNet
from robustjax.models.small_cnn import SmallCNN
from robustjax.models.tutorial_cnn import TutorialCNN
from robustjax.models.wide_resnet import WideResNet

COMMON_OPTIONS = tuple(field.name for field in dataclasses.fields(Layers))


@dataclasses.dataclass(frozen=True)
class Network:
    """One line of the registry.

    Attributes:
        pattern: the name, in which each capital letter stands for a whole number.
        module: called with those numbers, `num_classes` and the network's own options.
        summary: one line with the source.
        sizes: the numbers under which `names` lists it.
        options: options of its own, beside the common ones.
        largest: of each number; beyond it lie networks that nobody could train.
    """

    pattern: str
    module: Callable[..., nn.Module]
    summary: str
    sizes: tuple[tuple[int, ...], ...] = ((),)
    options: tuple[str, ...] = ()
    largest: tuple[int, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Returns the pattern with each of the sizes written in."""
        template = re.sub("[A-Z]", "{}", self.pattern)
        return tuple(template.format(*size) for size in self.sizes)

    def match(self, name: str) -> tuple[int, ...] | None:
        """Returns the numbers in `name`, or None where it is not of this pattern.

        Raises:
            ValueError: a number is larger than any that makes sense.
        """
        found = re.fullmatch(re.sub("[A-Z]", r"([1-9][0-9]*)", self.pattern), name)
        if found is None:
            return None
        texts = found.groups()
        for text, largest in zip(texts, self.largest, strict=False):
            if len(text) > len(str(largest)) or int(text) > largest:
                raise UserError(
                    f"{name:.60} is larger than any network that could be trained; of "
                    f"{self.pattern} accepted are numbers up to {', '.join(map(str, self.largest))}"
                )
        return tuple(int(text) for text in texts)


NETWORKS = (
    Network(
        "wide_resnet_D_W",
        WideResNet,
        "WRN-D-W (Zagoruyko & Komodakis, 2016); 34-10 in TRADES, MART, NAP, FAT and SENSE",
        ((16, 2), (28, 2), (28, 4), (28, 10), (34, 4), (34, 8), (34, 10), (40, 4), (58, 10)),
        ("dropout", "remat"),
        (1202, 1000),
    ),
    Network(
        "resnet_D",
        ResNet,
        "post-activation ResNet-D of 64 to 512 channels; 18 in MART and FAT, 18 and 8 for LRM",
        ((8,), (18,), (34,), (50,)),
        ("remat", "stem"),
        (1202,),
    ),
    Network(
        "preact_resnet_18",
        PreActResNet18,
        "pre-activation ResNet-18 (He et al., 2016) of Rice et al. (2020) and AWP",
        options=("remat", "stem"),
    ),
    Network(
        "cifar_resnet_D",
        CifarResNet,
        "ResNet-D of 16 to 64 channels (He et al., 2016); capacities of SENSE, §5.3.3",
        ((8,), (20,), (32,), (44,), (56,), (110,)),
        ("remat",),
        (1202,),
    ),
    Network(
        "madry_simple_resnet",
        partial(MadryResNet, (16, 32, 64)),
        "simple ResNet of the CIFAR-10 challenge (Madry et al., 2018), named by LRM",
        options=("remat",),
    ),
    Network(
        "madry_w32_10",
        partial(MadryResNet, (160, 320, 640)),
        "wide ResNet of the CIFAR-10 challenge (Madry et al., 2018)",
        options=("remat",),
    ),
    Network(
        "small_cnn",
        SmallCNN,
        "MNIST network of TRADES, MART and SENSE, with a head that starts at zero",
        options=("dropout",),
    ),
    Network("fat_small_cnn", FatSmallCNN, "8-layer CIFAR network of FAT (Zhang et al., 2020)"),
    Network(
        "tutorial_cnn",
        TutorialCNN,
        "PyTorch's CIFAR-10 tutorial network; capacity 2 of SENSE, §5.3.4",
    ),
    Network(
        "tutorial_cnn_small",
        partial(TutorialCNN, (30, 21)),
        "the tutorial network with a quarter of the hidden units; capacity 1 of SENSE, §5.3.4",
    ),
    Network(
        "sense_mnist_cnn_D",
        SenseMnistCNN,
        "MNIST network of capacity D of SENSE (Kim & Wang, 2022), §5.2.1",
        tuple((capacity,) for capacity in range(1, 7)),
        largest=(16,),
    ),
    Network("madry_mnist_cnn", MadryMnistCNN, "MNIST network of Madry et al. (2018)"),
    Network("digits_cnn", DigitsCNN, "three convolutions for 8×8 digits, trained on a CPU"),
)


_OWN: dict[str, Callable[..., Any]] = {}


def register(name: str, build: Callable[..., Any] | None = None) -> Any:
    """Adds a network to those that `create` knows, and so every command.

    Args:
        name: that it gets.
        build: called as `build(num_classes=10)`; gives a Flax module, or what has its `init(key,
            images)` and `apply(variables, images, train=...)`. Of the options of `create` it is
            given those that its signature names: `dtype`, `axis_name` and so on. One without
            `axis_name` keeps the statistics of its batch norm on each device. Not given, a
            decorator of such a function is returned.

    Returns:
        `build`.

    Raises:
        ValueError: the name is taken.
    """
    require_free_name("network", name, names())
    if build is None:
        return partial(register, name)
    _OWN[name] = build
    return build


def give(model: Any) -> str:
    """Makes an object known under a name that no command line has, until another has that name.

    Args:
      model: a network; or what builds it, called as `build(num_classes=...)`.

    Returns:
      The name, for `create`.

    Raises:
      ValueError: it is neither.
    """
    is_network = callable(getattr(model, "apply", None)) and not isinstance(model, type)
    if not is_network and not callable(model):
        raise refusal("model", shown(model), "networks, and functions that build them")
    named = type(model) if is_network else model
    name = own_code.name_of_given(named)
    _OWN[name] = (lambda num_classes: model) if is_network else model
    return name


def is_users(name: str) -> bool:
    """Whether a network is a user's: registered, given, or named as code."""
    return _is_own(name)


def _options_of(build: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(build).parameters.values()
    if any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
        return (*COMMON_OPTIONS, "dropout", "remat")
    return tuple(parameter.name for parameter in parameters if parameter.name != "num_classes")


_IN_EVERY_CALL = {"dtype": jnp.dtype("float32"), "axis_name": None}
"""What training always says; a network that does not take it has it so by itself."""


def _is_own(name: Any) -> bool:
    """Whether a network is a user's: registered, or code that is loaded now if it was not yet."""
    if own_code.is_own(name) and name not in _OWN:
        _OWN[str(name)] = own_code.load("model", name)
    return name in _OWN


def _create_own(name: str, num_classes: int, options: dict[str, Any]) -> Any:
    accepted = _options_of(_OWN[name])
    for option, value in options.items():
        usual = option == "axis_name" or (option, value) in _IN_EVERY_CALL.items()
        if option not in accepted and not usual:
            raise refusal(f"{name}: option", shown(option), ", ".join(accepted) or "none")
    own = {option: value for option, value in options.items() if option in accepted}
    network = _OWN[name](num_classes=num_classes, **own)
    lacking = [part for part in ("init", "apply") if not callable(getattr(network, part, None))]
    if lacking or isinstance(network, type):
        came = (
            f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        )
        raise refusal(
            f"model={name}: what it builds",
            came,
            "networks with init(key, images) and apply(variables, images), as Flax's modules have "
            "them, and what models.from_linen, from_nnx and from_equinox make of others",
        )
    return network


def create(name: str, *, num_classes: int = 10, **options: Any) -> nn.Module:
    """Makes the network called `name`, without weights.

    The module maps images to logits: `model.apply(variables, images)` takes images [B, H, W, C] in
    [0, 1] and returns float32 [B, num_classes]. `train=True` switches on dropout (with an rng
    "dropout") and normalises with the statistics of the batch, moving the running ones (with
    `mutable=["batch_stats"]`). `batch_statistics` decides the second alone: `train=False,
    batch_statistics=True` is the inner attack of NAP and IAAT, whose caller discards the moved
    statistics. Weights come from `model.init(key, images)` or `initialize`.

    Args:
        name: one of `names()`, or of their patterns: "wide_resnet_22_3", "cifar_resnet_14"; or code
            of one's own, "package.module:build", see `register` for what it is given and gives.
        num_classes: number of logits, at least 2.
        **options: of every network `activation`, `dtype`, `axis_name`, `mean`, `std`,
            `normalization` and `stride_padding` (see `robustjax.models.layers.Layers`; the
            defaults are the network's own); where the network has them, `dropout`, a
            rate in [0, 1), `remat`, of the residual networks (see `robustjax.models.blocks`), and
            `stem`, "cifar" or "imagenet" (see `robustjax.models.stems`).

    Returns:
        A Flax module, hashable.

    Raises:
        ValueError: a name, a size, an option or a value that there is not.
    """
    if _is_own(name):
        require_whole("num_classes", num_classes, 2)
        return _create_own(name, int(num_classes), options)
    network, sizes = _find(name)
    accepted = COMMON_OPTIONS + network.options
    unknown = [option for option in options if option not in accepted]
    if unknown:
        raise UserError(
            f"{name} has no option {', '.join(map(repr, unknown))}; it takes "
            f"{', '.join(accepted)}{did_you_mean(unknown[0], accepted)}"
        )
    require_whole("num_classes", num_classes, 2)
    require_finite("dropout", options.get("dropout", 0.0), 0.0, accepted="rates in [0, 1)")
    if options.get("dropout", 0.0) >= 1:
        raise UserError(f"dropout={options['dropout']}: accepted are rates in [0, 1)")
    require_truth("remat", options.get("remat", False))
    own = {option: plain(value) for option, value in options.items() if option in network.options}
    common = {option: value for option, value in options.items() if option in COMMON_OPTIONS}
    model = network.module(*sizes, num_classes=int(num_classes), **own)
    return model.clone(layers=dataclasses.replace(model.layers, **common))


def has_option(name: str, option: str) -> bool:
    """Returns whether the network called `name` takes an option in `create`.

    Args:
        name: one of `names()` or of their patterns.
        option: as "dropout" or "remat".

    Raises:
        ValueError: a name that there is not.
    """
    if _is_own(name):
        return option in _options_of(_OWN[name])
    return option in COMMON_OPTIONS + _find(name)[0].options


def names() -> tuple[str, ...]:
    """Returns the names that `create` is known by; a pattern makes more of them."""
    registered = (name for name in _OWN if not name.startswith("<") and ":" not in name)
    return (*(name for network in NETWORKS for name in network.names()), *registered)


def patterns() -> tuple[str, ...]:
    """Returns the names that stand for networks of any size, as "wide_resnet_D_W"."""
    return tuple(network.pattern for network in NETWORKS if network.largest)


def describe(name: str) -> str:
    """Returns one line on the network called `name`: what it is, and the paper it is from.

    Args:
        name: one of `names()` or of their patterns.

    Raises:
        ValueError: a name that there is not.
    """
    if _is_own(name):
        return (inspect.getdoc(_OWN[name]) or name).splitlines()[0]
    return _find(name)[0].summary


def _find(name: str) -> tuple[Network, tuple[int, ...]]:
    own_code.refuse_given("model", name)
    for network in NETWORKS:
        sizes = network.match(name) if isinstance(name, str) else None
        if sizes is not None:
            return network, sizes
    raise UserError(
        f"model={shown(name)}: accepted are {', '.join(names())}; {', '.join(patterns())} in other "
        f"sizes; and {own_code.FORM} of your own{did_you_mean(name, names())}"
    )
