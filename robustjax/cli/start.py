"""Starts a command before anything large is imported, so that Ctrl-C is one word at any moment."""

# Ctrl-C is a traceback until `run` is called: nothing that takes long is imported here.
import contextlib
import importlib
import os
import signal
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
"""The folder that holds the package."""

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
    main = importlib.import_module(f"robustjax.cli.{command}").main
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
    if os.path.isdir(os.path.join(CHECKOUT, "launch")):
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
