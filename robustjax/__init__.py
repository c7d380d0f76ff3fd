"""robustjax: adversarial training and robustness evaluation in pure-functional JAX.

Its sub-packages are imported when first used; importing any of them registers no flag, touches no
device and reads no file.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "analysis",
    "attacks",
    "data",
    "diagnosis",
    "evaluation",
    "losses",
    "methods",
    "models",
    "reports",
    "training",
)

__all__ = ["__version__", "cite", *_SUBPACKAGES]


def cite(method: str) -> str:
    """The BibTeX entry of the paper that a training method comes from.

    Args:
      method: a name of `robustjax.methods.names()`, such as "trades".

    Returns:
      The entry as text, ready for a .bib file.

    Raises:
      ValueError: no method has that name.
    """
    from robustjax import methods

    return methods.cite(method)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"robustjax.{name}")
    raise AttributeError(f"module 'robustjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
