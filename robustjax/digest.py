"""Names arrays and programs by their content, so that what belongs to others is told apart."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_ADDRESS = re.compile(r'backend_config = "\d+"')
"""Where a callback to the host lies in the memory of this process."""


def digest(*parts: Any) -> str:
    """SHA-256 of arrays, pytrees of them and JSON values, in hexadecimal.

    Args:
      *parts: arrays count by dtype, shape and bytes, everything else as JSON has it.
    """
    total = hashlib.sha256()
    for part in parts:
        leaves, structure = jax.tree.flatten(part)
        total.update(str(structure).encode())
        for leaf in leaves:
            if isinstance(leaf, np.ndarray | np.generic | jax.Array):
                array = np.asarray(leaf)
                total.update(f"{array.dtype}{array.shape}".encode())
                total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            else:
                total.update(json.dumps(leaf).encode())
    return total.hexdigest()


def digest_of_program(function: Callable[..., Any], *examples: Any) -> str:
    """SHA-256 of what a function computes and of the arrays that it computes it with.

    Args:
      function: a `jax.tree_util.Partial` whose leaves are arrays.
      *examples: arguments like those that it will be called with; their shapes and dtypes count.
    """
    leaves, structure = jax.tree.flatten(function)

    def program(leaves: list[Any], *arguments: Any) -> Any:
        return jax.tree.unflatten(structure, leaves)(*arguments)

    text = jax.jit(program).lower(leaves, *examples).as_text()
    return digest(_ADDRESS.sub("", text), leaves)
