"""Checks of flags that several commands share, made before any work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable

from absl import flags

from robustjax import own_code
from robustjax.arguments import LARGEST_COUNT, LARGEST_SEED, require_finite, require_whole
from robustjax.errors import UserError
from robustjax.files import Path, require_writable


def require_counts(**least: int) -> None:
    """Refuses flags that are no whole numbers, or too small or too large ones.

    Args:
      **least: the smallest number that each flag accepts; one that is not given is not looked at.
    """
    for name, smallest in least.items():
        value = flags.FLAGS[name].value
        if value is not None:
            most = LARGEST_SEED if name == "seed" else LARGEST_COUNT
            require_whole(f"--{name}", value, smallest, most)


def require_distances(*names: str, above_zero: bool = False) -> None:
    """Refuses flags that are no finite numbers, 0 or more; one that is not given is not looked at.

    Args:
      *names: of the flags.
      above_zero: whether 0 is refused too.
    """
    accepted = "finite numbers above 0" if above_zero else "finite numbers, 0 or more"
    for name in names:
        value = flags.FLAGS[name].value
        if value is not None:
            require_finite(f"--{name}", value, 0, accepted=accepted)
            if above_zero and value == 0:
                raise UserError(f"--{name}=0: accepted are {accepted}")


def define_model_of_run(values: flags.FlagValues) -> None:
    """The flag that lets a network be made by the code that a run's flags.txt names."""
    flags.DEFINE_multi(
        _OwnCodeParser(),
        flags.ArgumentSerializer(),
        "model",
        [],
        f"{own_code.FORM} that a run's flags.txt names as its network: code is run only where it "
        "is named here too",
        flag_values=values,
    )


class _OwnCodeParser(flags.ArgumentParser):
    def parse(self, argument: str) -> str:
        if not own_code.is_own(argument):
            raise UserError(f"accepted is the {own_code.FORM} of a run's flags.txt")
        return argument

    def flag_type(self) -> str:
        return "name of code"


def require_output(path: str | os.PathLike, flag: str, suffixes: Iterable[str] = ()) -> Path:
    """Sees that a file can be written where it is wanted.

    Args:
      path: of the file.
      flag: what named it, as "--output=x.png".
      suffixes: of the files that are written beside it.

    Raises:
      ValueError: it cannot.
    """
    path = Path(path)
    beside = [path.with_suffix(suffix).name for suffix in suffixes]
    require_writable(path.parent, flag, files=(path.name, *beside))
    return path
