"""The cases that are compared with PyTorch, and the arrays that they are compared with.

The arrays follow from their names, so that golden.npz holds no weights: only the names and shapes
of each state dict, and the logits that PyTorch gave.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

PATH = Path(__file__).parent / "golden.npz"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
SILU = {"activation": "silu", "stride_padding": "same", "mean": MEAN, "std": STD}


class Case(NamedTuple):
    model: str
    layout: str
    options: Mapping[str, Any] = MappingProxyType({})
    image_shape: tuple = (32, 32, 3)


CASES = {
    "wide_resnet_trades": Case("wide_resnet_10_2", "trades"),
    "wide_resnet_robustbench": Case("wide_resnet_16_1", "robustbench"),
    "wide_resnet_deepmind": Case("wide_resnet_16_1", "deepmind", SILU),
    "resnet_18": Case("resnet_18", "trades"),
    "resnet_34": Case("resnet_34", "trades"),
    "resnet_50": Case("resnet_50", "robustbench"),
    "preact_resnet_18": Case("preact_resnet_18", "rice"),
    "small_cnn": Case("small_cnn", "trades", {}, (28, 28, 1)),
    "fat_small_cnn": Case("fat_small_cnn", "fat"),
    "tutorial_cnn": Case("tutorial_cnn", "pytorch"),
}


def images(case):
    """Three images, float32 [3, H, W, C] in [0, 1]."""
    draws = np.random.default_rng(0).random((3, *case.image_shape))
    return draws.astype(np.float32)


def draw(shapes):
    """The arrays of a state dict by its names and shapes: none is 0 or 1 where it could hide."""
    return {name: _draw(name, shape) for name, shape in shapes.items()}


def _draw(name, shape):
    draws = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last in ("mean", "std"):
        return np.array(MEAN if last == "mean" else STD, np.float32).reshape(shape)
    if last == "num_batches_tracked":
        return np.array(draws.integers(1, 1000))
    if last == "running_var" or (last == "weight" and len(shape) == 1):
        array = draws.uniform(0.5, 1.5, shape)
    elif last == "weight":
        array = draws.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        array = draws.normal(0, 0.2, shape)
    return array.astype(np.float32)


def write(found):
    """Writes golden.npz from case -> (shapes, logits)."""
    texts = {f"{name}.shapes": json.dumps(shapes) for name, (shapes, _) in found.items()}
    logits = {f"{name}.logits": logits for name, (_, logits) in found.items()}
    np.savez_compressed(PATH, **texts, **logits)


def read(name):
    """The shapes and the logits of a case."""
    with np.load(PATH, allow_pickle=False) as archive:
        shapes = json.loads(str(archive[f"{name}.shapes"]))
        return {key: tuple(shape) for key, shape in shapes.items()}, archive[f"{name}.logits"]
