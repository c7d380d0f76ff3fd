"""Starts a command before anything large is imported, so that Ctrl-C is one word at any moment."""

# Ctrl-C is a traceback until `run` is called: nothing that takes long is imported here.
import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from robustjax import installed

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""The folder that holds the package."""

HELP = ("--help", "-help", "-h", "--helpshort", "--helpfull")

HELP_TEXTS = Path(__file__).resolve().parent / "help"
"""What --help prints, a file for each command; tools/help_texts.py writes them."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended, as the shell has it."""


def run(command: str) -> None:
    """Imports a command and runs it; never returns.

    Args:
      command: the name of its module in `robustjax.cli`.
    """
    # While modules are imported or taken down, an exception could end up anywhere: leave at once.
    previous = signal.getsignal(signal.SIGINT)
    _interrupt_with(_leave)
    forget_working_directory()
    text = HELP_TEXTS / f"{command}.txt"
    if any(argument in HELP for argument in sys.argv[1:]) and text.is_file():
        _print_and_end(installed.as_written(text.read_text(encoding="utf-8")))
    try:
        main = importlib.import_module(f"robustjax.cli.{command}").main
    except ImportError as error:
        if (missing := installed.missing_extra(error)) is None:
            raise
        sys.exit(f"error: {missing}")
    _interrupt_with(previous)
    try:
        main()
    except KeyboardInterrupt:
        leave()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            leave(say=False)
        raise
    finally:
        _interrupt_with(_leave)


def _print_and_end(text: str) -> NoReturn:
    """Prints a text that is known without the libraries, whose import takes seconds."""
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # Whoever read it has read enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    sys.exit(0)


def leave(*, say: bool = True) -> None:
    """Ends an interrupted command without waiting for anything."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if say:
        os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def forget_working_directory() -> None:
    """Takes the checkout and the working directory off the import path.

    This package has been found by now. Whatever else lies there, a folder of data that is called
    like a library for one, is never to be imported.
    """
    places = set()
    with contextlib.suppress(FileNotFoundError):  # It was removed.
        places.add(os.getcwd())
    if installed.checkout() is not None:
        places.add(CHECKOUT)
    sys.path[:] = [place for place in sys.path if place and os.path.realpath(place) not in places]


def _interrupt_with(handler: "signal._HANDLER") -> None:
    """Sets what Ctrl-C does, unless whoever started this process has it ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _leave(number: int, frame: object) -> None:
    leave()


def environment_of_child() -> dict[str, str]:
    """The environment of a command that this one starts: it finds the same package."""
    places = [CHECKOUT, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
