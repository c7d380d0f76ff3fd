"""The networks of the papers, created by name: `models.create("wide_resnet_34_10")`."""

from robustjax.models.initialization import initialize, parameter_count
from robustjax.models.registry import create, describe, has_option, names

__all__ = ["create", "describe", "has_option", "initialize", "names", "parameter_count"]
