"""Between the variables of a network here and a state dict of the same network in PyTorch."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from robustjax import models
from robustjax.arguments import shown
from robustjax.errors import UserError
from robustjax.interop.layouts import Family, Layout, family_of, layout_called
from robustjax.interop.recognition import Recognized, is_told, recognize
from robustjax.interop.transposition import (
    COUNTER,
    Path,
    flat,
    floats,
    layer_before,
    moved_here,
    moved_there,
    name_there,
    shape_there,
)

Arrays = dict[str, np.ndarray]

Expected = dict[str, tuple[Path, tuple[int, ...]]]
"""Name of an array there -> its path and its shape here."""

_LISTED = 20
"""How many names of a kind a message lists."""


def from_torch(model_name: str, state_dict: Mapping[str, Any], **model_options: Any) -> Any:
    """The variables of a network from a state dict of the same network in PyTorch.

    The layout is recognised by its names (`interop.layouts` lists those that are known), whatever
    stands in front of all of them, such as "module."; layers that a layout is known to carry
    without using (TRADES's "sub_block1") are left out.

    Args:
        model_name: as `models.create` takes it.
        state_dict: names -> arrays, of NumPy, JAX or PyTorch, on any device.
        **model_options: with which `models.create` makes the network; "num_classes" is read off
            where it is not among them. What they say of `stride_padding`, `mean` and `std` is held
            against what the state dict tells; where they say nothing of it, a warning does.

    Returns:
        {"params": ...} and, with batch norm, "batch_stats", float32 NumPy arrays: what
        `models.create(model_name, num_classes=..., **model_options).apply` takes.

    Raises:
        ValueError: names are missing or left over, or arrays are of another shape (one error lists
            them all) or no floating point; a network or an option that there is not; an option
            that contradicts the state dict.

    Example:
        >>> from robustjax import interop, models
        >>> model = models.create("digits_cnn")
        >>> variables = models.initialize(model, jax.random.key(0), (8, 8, 1))
        >>> state_dict = interop.to_torch("digits_cnn", variables, layout="robustjax")
        >>> state_dict["conv1.weight"].shape
        (16, 1, 3, 3)
        >>> interop.from_torch("digits_cnn", state_dict)["params"]["conv1"]["kernel"].shape
        (3, 3, 1, 16)

    Source: the state dicts of TRADES, MART, FAT, Rice et al. (2020), Gowal et al. (2020) and
        RobustBench.
    """
    found = recognize(model_name, state_dict)
    _require_as_told(found, model_options)
    arrays = {name: floats(name, value) for name, value in found.named.items()}
    head = arrays.get(found.weight_of(found.family.head))
    read_off = len(head) if head is not None and head.ndim else 10
    options = {"num_classes": read_off, **model_options}
    expected = _expected(model_name, found.family, found.layout, options, arrays)
    _require_same(model_name, found.layout, expected, arrays, found.left_over)
    moved: dict[Path, np.ndarray] = {}
    for name, (path, _) in expected.items():
        before = layer_before(found.family, path)
        channels = None if before is None else len(arrays[found.weight_of(before)])
        moved[path] = moved_here(arrays[name], path, channels)
    return traverse_util.unflatten_dict(moved)


def to_torch(
    model_name: str, variables: Any, *, layout: str, **model_options: Any
) -> dict[str, np.ndarray]:
    """A state dict that the same network in PyTorch loads, strictly too.

    Args:
        model_name: as `models.create` takes it.
        variables: of the network, arrays of NumPy or JAX.
        layout: one of `interop.layouts(model_name)`: whose names are written. Layers that the
            project carries without using are copies of those that it uses.
        **model_options: with which the network was made. `mean` and `std` are written as buffers,
            called as RobustBench ("mu", "sigma") and DeepMind ("mean", "std") call them; a network
            that pads otherwise than the project's is refused.

    Returns:
        Names -> float32 NumPy arrays, and int64 counters of batch norm.

    Raises:
        ValueError: the variables are not those of the network, or `layout` is none of its.
    """
    family, chosen = family_of(model_name), layout_called(model_name, layout)
    _require_same_padding(model_name, family, chosen, model_options)
    mine = {path: np.asarray(leaf) for path, leaf in flat(variables).items()}
    arrays: Arrays = {}
    for path, leaf in mine.items():
        kernel = mine.get(("params", layer_before(family, path) or "", "kernel"))
        channels = None if kernel is None or not kernel.ndim else kernel.shape[-1]
        name = name_there(chosen, path)
        there = leaf if name is None else floats(name, moved_there(leaf, path, channels))
        arrays[name or "/".join(path)] = there
    head = mine.get(("params", family.head, "kernel"))
    read_off = head.shape[-1] if head is not None and head.ndim else 10
    options = {**model_options, "num_classes": read_off}
    expected = _expected(model_name, family, chosen, options, arrays)
    _require_same(model_name, chosen, expected, arrays)
    written = _buffers(chosen, model_options, _channels(family, chosen, arrays))
    for name in expected:
        written[name] = arrays[name]
        layer, _, leaf_name = name.rpartition(".")
        if leaf_name == "running_var":
            written[f"{layer}.{COUNTER}"] = np.zeros((), np.int64)
    for unused, used in chosen.unused.items():
        names = [name for name in written if name.startswith(used)]
        written |= {unused + name.removeprefix(used): written[name].copy() for name in names}
    return written


def told_options(model_name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network that its state dict itself tells.

    Args:
        model_name: as `models.create` takes it.
        state_dict: names -> arrays.

    Returns:
        "num_classes"; "stem" where it is that of ImageNet; "stride_padding" where the networks of
        its layout pad otherwise than ours; "mean" and "std" where it has them as buffers. The
        activation is in no state dict.

    Raises:
        ValueError: no layout of the network is known.
    """
    found = recognize(model_name, state_dict)
    shape = np.shape(found.named.get(found.weight_of(found.family.head), 0))
    classes = {"num_classes": int(shape[0])} if shape else {}
    return {**classes, **found.told_options()}


def _require_as_told(found: Recognized, options: Mapping[str, Any]) -> None:
    """Sees that the network is made as the state dict says that it is to be."""
    for option, value in found.told_options().items():
        text = value if isinstance(value, str) else ",".join(f"{number:g}" for number in value)
        said = f"the state dict is of a network with {option}={text}"
        given = options.get(option)
        if given is None:
            warnings.warn(f"{said}: models.create has to be given it too", stacklevel=3)
        elif not is_told(given, value):
            raise UserError(f"{option}={shown(given)}: {said}")


def _require_same_padding(
    model_name: str, family: Family, layout: Layout, options: Mapping[str, Any]
) -> None:
    given = {key: value for key, value in options.items() if key == "stride_padding"}
    padding = models.create(model_name, **given).layers.stride_padding
    if family.strided and padding != layout.stride_padding:
        raise UserError(
            f"layout={layout.name}: its networks have stride_padding={layout.stride_padding!r}, "
            f"and this one {padding!r}: it would give other logits there"
        )


def _expected(
    model_name: str,
    family: Family,
    layout: Layout,
    options: Mapping[str, Any],
    arrays: Arrays,
) -> Expected:
    """The arrays of a network as they are named there.

    Of images of several sizes those are taken whose shapes are found in `arrays`, if any are.
    """
    models.create(model_name, **options)
    without = {key: value for key, value in options.items() if key not in ("mean", "std")}
    model = models.create(model_name, **without)
    channels = _channels(family, layout, arrays)
    found: list[Expected] = []
    for side in family.sides:
        images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        try:
            variables = jax.eval_shape(model.init, jax.random.key(0), images)
        except UserError:  # The images are too small for it.
            continue
        expected: Expected = {}
        for path, leaf in flat(variables).items():
            name = name_there(layout, path)
            assert name is not None, path  # The layout is one of this family.
            expected[name] = path, tuple(leaf.shape)
        found.append(expected)
        dense = [f"{layout.rename(layer)}.weight" for layer in family.flattened]
        if all(name in arrays and _fits(arrays[name], expected[name]) for name in dense):
            return expected
    return found[0]


def _channels(family: Family, layout: Layout, arrays: Arrays) -> int:
    """Of the images, told by the layer that sees them."""
    stem = arrays.get(f"{layout.rename(family.stem)}.weight")
    return 3 if stem is None or stem.ndim != 4 else stem.shape[1]


def _fits(array: np.ndarray, expected: tuple[Path, tuple[int, ...]]) -> bool:
    return array.shape == shape_there(*expected)


def _require_same(
    model_name: str,
    layout: Layout,
    expected: Expected,
    arrays: Arrays,
    left_over: tuple[str, ...] = (),
) -> None:
    """Refuses arrays whose names or shapes are not those of the network; lists them."""
    wrong = {
        "missing": [name for name in expected if name not in arrays],
        "extra": [*(name for name in arrays if name not in expected), *left_over],
        "of another shape": [
            f"{name} {list(arrays[name].shape)} in place of {list(shape_there(*expected[name]))}"
            for name in expected
            if name in arrays and not _fits(arrays[name], expected[name])
        ],
    }
    if any(wrong.values()):
        said = "; ".join(f"{kind}: {_some(names)}" for kind, names in wrong.items() if names)
        raise UserError(
            f"the weights are not those of model={model_name} in the layout {layout.name!r}: {said}"
        )


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _buffers(layout: Layout, options: Mapping[str, Any], channels: int) -> Arrays:
    """The normalisation as the layout has it, if it has any."""
    mean, std = options.get("mean"), options.get("std")
    if mean is None or std is None:
        if not layout.normalizes:
            return {}
        mean, std = (0.0,) * channels, (1.0,) * channels
    shape = tuple(channels if size == -1 else size for size in layout.buffer_shape)
    return {
        name: np.asarray(numbers, np.float32).reshape(shape)
        for name, numbers in zip(layout.mean_and_std, (mean, std), strict=True)
    }
