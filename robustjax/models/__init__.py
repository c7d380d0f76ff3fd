"""The networks of the papers, created by name: `models.create("wide_resnet_34_10")`.

Nothing here knows of attacks or training. `layers` and `convolution` are what networks are made of;
`registry` has their names and options.
"""

from robustjax.models.initialization import initialize, parameter_count
from robustjax.models.registry import create, describe, has_option, names, register

__all__ = ["create", "describe", "has_option", "initialize", "names", "parameter_count", "register"]
