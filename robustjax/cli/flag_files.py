"""Looks at the flag files of a command line before absl reads them."""

import re
from collections.abc import Iterable

from robustjax.errors import UserError
from robustjax.files import Path

_DEEPEST = 20
"""How many flag files may include each other."""


def check(arguments: Iterable[str], within: tuple[str, ...] = ()) -> None:
    """Sees that every flag file can be read, also those that flag files include.

    Args:
      arguments: of a command line, or the lines of a flag file.
      within: the files that include these lines, the outermost first.

    Raises:
      ValueError: a file cannot be read, is no text, or includes itself; names it.
    """
    for name in _included(arguments):
        flag = f"--flagfile={name}"
        if name in within:
            raise UserError(f"{flag} includes itself, by way of {within[-1]}")
        if len(within) == _DEEPEST:
            raise UserError(
                f"{flag}: more than {_DEEPEST} flag files include each other, from "
                f"--flagfile={within[0]} on"
            )
        try:
            lines = Path(name).expanduser().read_bytes().decode().splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{flag} is no text: {error}") from None
        except OSError as error:
            raise UserError(f"{flag} cannot be read: {error.strerror or error}") from error
        if any("\0" in line for line in lines):
            raise UserError(f"{flag} is no text: it has a zero byte")
        check((line.strip() for line in lines), (*within, name))


def _included(arguments: Iterable[str]) -> list[str]:
    """The names after --flagfile, in the same argument or the next."""
    found, expected = [], False
    for argument in arguments:
        if expected:
            found.append(argument)
            expected = False
            continue
        match = re.fullmatch(r"--?flagfile(?:=(.*))?", argument, re.DOTALL)
        if match is not None and match[1] is None:
            expected = True
        elif match is not None and match[1]:
            found.append(match[1])
    return found
