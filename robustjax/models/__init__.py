"""The networks of the papers, created by name: `models.create("wide_resnet_34_10")`.

Nothing here knows of attacks or training. `layers` and `convolution` are what networks are made of;
`registry` has their names and options. What is no linen module becomes a network by `from_nnx`,
`from_equinox` or, with other arguments, `from_linen`; `Classifier` says what a network has to be.
"""

import importlib
from typing import TYPE_CHECKING, Any

from robustjax.models.classifier import Classifier
from robustjax.models.equinox_adapter import from_equinox
from robustjax.models.initialization import initialize, parameter_count
from robustjax.models.linen_adapter import from_linen
from robustjax.models.registry import (
    create,
    describe,
    give,
    has_option,
    is_users,
    names,
    patterns,
    register,
)

if TYPE_CHECKING:
    from robustjax.models.nnx_adapter import from_nnx

__all__ = [
    "Classifier",
    "create",
    "describe",
    "from_equinox",
    "from_linen",
    "from_nnx",
    "give",
    "has_option",
    "initialize",
    "is_users",
    "names",
    "parameter_count",
    "patterns",
    "register",
]


def __getattr__(name: str) -> Any:
    if name == "from_nnx":  # NNX takes as long to import as linen with all networks.
        return importlib.import_module("robustjax.models.nnx_adapter").from_nnx
    raise AttributeError(f"module 'robustjax.models' has no attribute {name!r}")
