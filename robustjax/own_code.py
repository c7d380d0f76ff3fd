"""Code that a user brings by its name, `package.module:function`, and who may name it.

To name code is to run it. So a name counts where a person gives it: on the command line, or in
Python. The flags of a run that somebody else has made may hold a name too, but are text: what is
read from a file is a `FromFile`, and is run only once the same name was given by a person.
"""

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from robustjax.arguments import did_you_mean, shown
from robustjax.errors import UserError

_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"

FORM = "package.module:function"
"""How such a name is written, for messages and help."""


class OwnCodeError(UserError):
    """The code that a name stands for cannot be had, or is not to be run."""


class FromFile(str):
    """A name of code that was read from a file, which alone is no reason to run it."""

    __slots__ = ()


_named_by_a_person: set[str] = set()


def is_own(name: Any) -> bool:
    """Whether a name is one of a user's code: `package.module:function`."""
    return isinstance(name, str) and re.fullmatch(_NAME, name) is not None


def trust(*names: str) -> None:
    """Lets code be run that the files of a run name, such as its flags.txt.

    Args:
      *names: `package.module:function`, as they stand there.
    """
    _named_by_a_person.update(str(name) for name in names)


def trust_command_line(arguments: Iterable[str]) -> None:
    """Lets code be run that is named on the command line itself, and not in a flag file.

    Args:
      arguments: of the command line.
    """
    for argument in arguments:
        trust(*re.findall(rf"(?:(?<=^)|(?<=[=,])){_NAME}(?=[,(]|$)", argument))


def is_trusted(name: str) -> bool:
    """Whether a person has named this code."""
    return str(name) in _named_by_a_person


def as_read(text: str) -> str:
    """A value of a flag file: marked if it is a name of code, alone or behind "="."""
    return FromFile(text) if is_own(text.rpartition("=")[2]) else text


def name_of_given(thing: Any) -> str:
    """The name of an object that is given in Python, where a name is recorded: "<Name>".

    Args:
      thing: a class, a function, or what has a `name`, or an instance of a class.
    """
    named = getattr(thing, "__name__", None) or getattr(thing, "name", None)
    text = named if isinstance(named, str) and named else type(thing).__name__
    return f"<{''.join(letter for letter in text if letter not in '<> ')}>"


def refuse_given(argument: str, name: Any) -> None:
    """Refuses the recorded name of an object that nobody has given in this process.

    Raises:
      ValueError: it is such a name.
    """
    if isinstance(name, str) and re.fullmatch("<.*>", name):
        raise OwnCodeError(
            f"{argument}={name} was given in Python, as an object, and a name does not bring it "
            f"back; give it again, as {argument}=, to training.train or evaluation.load_network"
        )


def load(argument: str, name: str) -> Callable[..., Any]:
    """What a name stands for; runs the module that it is in.

    The working directory is put at the end of the import path, whence launchers take it away.

    Args:
      argument: that the name was given as, for messages: "model".
      name: `package.module:function`.

    Returns:
      A function, a class, or whatever else can be called.

    Raises:
      ValueError: a file alone names it, or there is no such module, or nothing in it that is called
        so. An error of the module's own code passes through.
    """
    if isinstance(name, FromFile) and not is_trusted(name):
        raise OwnCodeError(
            f"{argument}={name} is code that a file names, and code is run only where you name it "
            f"yourself: add {argument}={name} to the command line (in Python "
            f"robustjax.own_code.trust({str(name)!r}))"
        )
    trust(name)
    place, _, attribute = name.partition(":")
    module = _imported(argument, name, place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            there = [known for known in vars(module) if not known.startswith("_")]
            raise OwnCodeError(
                f"{argument}={name}: {getattr(module, '__file__', None) or place} has no "
                f"{attribute}{did_you_mean(attribute, there)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise OwnCodeError(
            f"{argument}={name} is {shown(found)}; accepted are functions and classes"
        )
    return found


def _imported(argument: str, name: str, place: str) -> ModuleType:
    """The module that a name says."""
    working_directory = os.getcwd()
    if not {"", working_directory} & set(sys.path):
        # At the end: nothing that lies there is to stand in for a library.
        sys.path.append(working_directory)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # Of something that the module imports.
        raise OwnCodeError(
            f"{argument}={name}: there is no module {error.name}, neither installed nor in the "
            f"working directory {working_directory}; accepted is {FORM}"
        ) from None
