"""How many bytes the devices of a train step add up with each other: counted, and as it should be.

A ring sends each of them almost twice from every device, whatever the number of devices.
"""

import math
import re
from typing import Any

import jax
import numpy as np

from benchmarks.method_work import MethodWork

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_OPERATION = re.compile(r"=\s+(?P<shapes>\(.*?\)|\S+)\s+all-reduce(-start)?\(")
_SHAPE = re.compile(r"(?P<type>[a-z]+\d*)\[(?P<sizes>[\d,]*)\]")


def counted(program: str) -> int:
    """Bytes of the operands of all all-reduces in a compiled program, in XLA's HLO."""
    total = 0
    for operation in _OPERATION.finditer(program):
        for shape in _SHAPE.finditer(operation["shapes"]):
            sizes = [int(size) for size in shape["sizes"].split(",") if size]
            total += _BYTES[shape["type"]] * math.prod(sizes)
    return total


def expected(params: Any, statistics: Any, work: MethodWork) -> int:
    """What a step of a method has to add up, with global batch norm, in bytes.

    The gradient is as large as the weights. Each forward pass of the outer loss averages every
    batch norm's mean and mean square, and its backward pass their gradients; at the end the running
    statistics are averaged once more. Three numbers come on top: the loss, the weight of the batch,
    and the attack's gradients for the log.
    """
    return _bytes(params) + (2 * work.outer_passes + 1) * _bytes(statistics) + 3 * 4


def _bytes(tree: Any) -> int:
    return sum(np.prod(leaf.shape, dtype=int) * 4 for leaf in jax.tree.leaves(tree)).item()
