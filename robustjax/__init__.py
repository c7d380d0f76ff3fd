"""robustjax: adversarial training and robustness evaluation in pure-functional JAX.

Its sub-packages are imported when first used; importing any of them registers no flag, touches no
device and reads no file.
"""

import importlib
from types import ModuleType

from robustjax.errors import UserError

__version__ = "0.1.0"

_SUBPACKAGES = (
    "analysis",
    "attacks",
    "data",
    "diagnosis",
    "evaluation",
    "interop",
    "losses",
    "methods",
    "models",
    "reports",
    "testing",
    "training",
)

__all__ = ["UserError", "__version__", "cite", *_SUBPACKAGES]


def cite(name: str, *, norm: str = "linf") -> str:
    """The BibTeX entry of the paper that a training method, or an attack, comes from.

    Args:
      name: of a method, such as "trades", or of an attack, such as "apgd-t".
      norm: of an attack's ball, "linf", "l2" or "l1"; in l1, PGD, APGD, Square and AutoAttack have
        a second entry, that of "Mind the Box".

    Returns:
      The entries as text, ready for a .bib file.

    Raises:
      ValueError: nothing has that name, or there is no such norm.
    """
    from robustjax import methods
    from robustjax.attacks import naming

    if name not in methods.names() and naming.is_known(name):
        return naming.cite(name, norm)
    return methods.cite(name)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"robustjax.{name}")
    raise AttributeError(f"module 'robustjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
