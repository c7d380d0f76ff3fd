"""How other projects name the layers of the networks, a table: the names, and no arrays."""

import dataclasses
import re
from collections.abc import Callable, Mapping

from robustjax.arguments import did_you_mean, shown
from robustjax.errors import UserError

Rename = Callable[[str], str]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The names that a project gives to the layers of a network.

    Attributes:
        name: of the project.
        rename: from the path of a layer here, "block1_layer_0/conv1", to its name there.
        unused: groups of layers that it carries and does not use -> the group whose shapes they
            have, both as beginnings of names there.
        stride_padding: where its networks pad, see `robustjax.models.layers.Layers`.
        mean_and_std: what it calls the buffers of the normalisation.
        normalizes: whether its networks always have these.
        buffer_shape: axes of length 1 before and after the channels of the buffers.
    """

    name: str
    rename: Rename
    unused: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stride_padding: str = "torch"
    mean_and_std: tuple[str, str] = ("mu", "sigma")
    normalizes: bool = False
    buffer_shape: tuple[int, ...] = (1, -1, 1, 1)


@dataclasses.dataclass(frozen=True)
class Family:
    """The networks that are named alike.

    Attributes:
        pattern: matches their names.
        stem: the layer that sees the images.
        head: the layer that gives the logits.
        layouts: in which their weights are read and written; the first is the usual one.
        flattened: a dense layer that sees an image flattened -> the convolution before it, whose
            channels run fastest here and slowest in PyTorch.
        sides: of images whose shapes are tried, where a dense layer depends on them.
        strided: whether it has convolutions with a stride, so that it matters where they pad.
    """

    pattern: str
    stem: str
    head: str
    layouts: tuple[Layout, ...]
    flattened: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sides: tuple[int, ...] = (32,)
    strided: bool = True


def _dotted(path: str) -> str:
    """As PyTorch names what is numbered: "layer1_0/shortcut_0" is "layer1.0.shortcut.0"."""
    return re.sub(r"_(\d+)(?=/|$)", r".\1", path).replace("/", ".")


def _torchvision(path: str) -> str:
    return _dotted(path.replace("/shortcut_", "/downsample_").replace("linear", "fc"))


def _wide(path: str) -> str:
    return re.sub(r"^(block\d)_layer_", r"\1.layer.", path).replace("/", ".")


_DEEPMIND = {
    "conv1": "init_conv", "bn1": "batchnorm", "fc": "logits",
    "block/bn1": "batchnorm_0", "block/conv1": "conv_0", "block/bn2": "batchnorm_1",
    "block/conv2": "conv_1", "block/convShortcut": "shortcut",
}  # fmt: skip


def _deepmind(path: str) -> str:
    block = re.fullmatch(r"block(\d)_layer_(\d+)/(\w+)", path)
    if block is None:
        return _DEEPMIND[path]
    group, index, layer = block.groups()
    return f"layer.{int(group) - 1}.block.{index}.{_DEEPMIND[f'block/{layer}']}"


def _in_two_parts(path: str) -> str:
    return f"{'classifier' if path.startswith('fc') else 'feature_extractor'}.{path}"


def _plain(path: str) -> str:
    return path.replace("/", ".")


_ANY_SIDE = (32, 28, 8, 16, 48, 64, 96, 128, 224)

FAMILIES = (
    Family(
        r"wide_resnet_\d+_\d+",
        "conv1",
        "fc",
        (
            Layout("trades", _wide, {"sub_block1.": "block1."}),
            Layout("robustbench", _wide),
            Layout(
                "deepmind",
                _deepmind,
                stride_padding="same",
                mean_and_std=("mean", "std"),
                normalizes=True,
                buffer_shape=(-1, 1, 1),
            ),
        ),
    ),
    Family(
        r"resnet_\d+",
        "conv1",
        "linear",
        (
            Layout("trades", _dotted),
            Layout("robustbench", _dotted),
            Layout("torchvision", _torchvision),
        ),
    ),
    Family(
        r"preact_resnet_18",
        "conv1",
        "linear",
        (Layout("rice", _dotted), Layout("robustbench", _dotted)),
    ),
    Family(r"cifar_resnet_\d+", "conv1", "linear", (Layout("sense", _dotted),)),
    Family(
        r"small_cnn",
        "conv1",
        "fc3",
        (Layout("trades", _in_two_parts),),
        {"fc1": "conv4"},
        _ANY_SIDE,
        strided=False,
    ),
    Family(
        r"fat_small_cnn",
        "block1_conv1",
        "fc2",
        (Layout("fat", _plain),),
        {"fc1": "block3_conv2"},
        _ANY_SIDE,
        strided=False,
    ),
    Family(
        r"tutorial_cnn(_small)?",
        "conv1",
        "fc3",
        (Layout("pytorch", _plain),),
        {"fc1": "conv2"},
        _ANY_SIDE,
        strided=False,
    ),
    Family(
        r"digits_cnn", "conv1", "fc", (Layout("robustjax", _plain),), {"fc": "conv3"}, _ANY_SIDE
    ),
)


def family_of(model_name: str) -> Family:
    """The family of a network.

    Raises:
        ValueError: no layout of another project is known of it.
    """
    for family in FAMILIES:
        if isinstance(model_name, str) and re.fullmatch(family.pattern, model_name):
            return family
    known = ", ".join(family.pattern.replace(r"\d+", "N") for family in FAMILIES)
    raise UserError(
        f"model={shown(model_name)}: how other projects name its layers is not known; it is of "
        f"{known.replace('(_small)?', '')}{did_you_mean(model_name, NAMED)}"
    )


NAMED = ("wide_resnet_28_10", "resnet_18", "preact_resnet_18", "small_cnn", "fat_small_cnn")


def layouts(model_name: str) -> tuple[str, ...]:
    """The names of the layouts in which weights of a network are written, the usual one first.

    Raises:
        ValueError: there is none.
    """
    return tuple(layout.name for layout in family_of(model_name).layouts)


def layout_called(model_name: str, name: str) -> Layout:
    """The layout of a network that has a name.

    Raises:
        ValueError: there is none of that name; says which there are.
    """
    family = family_of(model_name)
    for layout in family.layouts:
        if layout.name == name:
            return layout
    known = layouts(model_name)
    raise UserError(
        f"layout={shown(name)}: of {model_name} accepted are {', '.join(known)}"
        f"{did_you_mean(name, known)}"
    )
