"""Weights to and from other projects: PyTorch's names and layout, and the files that hold them.

`layouts` says how each project names the layers of a network, `conversion` turns arrays into ours
and back, `weights_file` and `safetensors_file` read and write files without running what is in
them. What becomes of the weights, a run's folder or a figure, is decided elsewhere.
"""

from robustjax.interop.conversion import from_torch, to_torch, told_options
from robustjax.interop.layouts import layouts
from robustjax.interop.safetensors_file import read_safetensors, write_safetensors
from robustjax.interop.weights_file import read_weights

__all__ = [
    "from_torch",
    "layouts",
    "read_safetensors",
    "read_weights",
    "to_torch",
    "told_options",
    "write_safetensors",
]
