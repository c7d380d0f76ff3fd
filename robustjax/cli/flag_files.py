"""Reads the flag files of a command line, in the place of absl, which knows those here alone."""

import re
from collections.abc import Iterable

from robustjax import installed
from robustjax.errors import UserError
from robustjax.files import Path

_DEEPEST = 20
"""How many flag files may include each other."""


def expanded(arguments: Iterable[str], within: tuple[str, ...] = ()) -> list[str]:
    """Puts the lines of flag files where the files are named, also those that flag files include.

    A file that is not there is looked for among those that come with the package: "trades.flags",
    "mnist/lrm.flags", or as a checkout has it "launch/trades.flags".

    Args:
      arguments: of a command line, or the lines of a flag file.
      within: the files that include these lines, the outermost first.

    Raises:
      ValueError: a file cannot be read, is no text, or includes itself; names it.
    """
    found, expected = [], False
    for argument in arguments:
        match = re.fullmatch(r"--?flagfile(?:=(.*))?", argument, re.DOTALL)
        if expected:
            found += _lines(argument, within)
            expected = False
        elif match is None:
            found.append(argument)
        elif match[1] is None:
            expected = True
        elif match[1]:
            found += _lines(match[1], within)
    # absl says that the name is missing.
    return [*found, "--flagfile"] if expected else found


def _lines(name: str, within: tuple[str, ...]) -> list[str]:
    """The flags that a file gives."""
    flag = f"--flagfile={name}"
    if name in within:
        raise UserError(f"{flag} includes itself, by way of {within[-1]}")
    if len(within) == _DEEPEST:
        raise UserError(
            f"{flag}: more than {_DEEPEST} flag files include each other, from "
            f"--flagfile={within[0]} on"
        )
    try:
        lines = _located(name).read_bytes().decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} is no text: {error}") from None
    except OSError as error:
        raise UserError(f"{flag} cannot be read: {error.strerror or error}") from error
    if any("\0" in line for line in lines):
        raise UserError(f"{flag} is no text: it has a zero byte")
    given = [line.strip() for line in lines]
    said = [line for line in given if line and not line.startswith(("#", "//"))]
    return expanded(said, (*within, name))


def _located(name: str) -> Path:
    """The file of that name here, else the one that comes with the package."""
    path = Path(name).expanduser()
    packaged = Path(installed.flag_file(name))
    return packaged if not path.exists() and packaged.is_file() else path
