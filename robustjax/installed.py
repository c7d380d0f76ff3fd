"""What is installed beside the code: commands as a person writes them, flag files, and extras.

In a checkout the commands and flag files lie in `launch/`; an installed package brings the console
script `robustjax`, and the flag files inside of itself.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from robustjax.errors import UserError

COMMANDS = {
    "train": "trains a robust classifier, or goes on with a run",
    "evaluate": "attacks the network of a run, or weights of another project",
    "quickstart": "natural training beside TRADES on the embedded digits, in two minutes",
    "reproduce": "a paper's table or figure, our numbers beside the published ones",
    "sweep": "trains and evaluates for several values and seeds",
    "report": "a run, or several compared, as one page",
    "diagnose": "are the gradients of a run masked?",
    "transfer": "attacks made on one run's network, judged by another's",
    "verify": "looks at saved adversarial images again",
    "analyze": "what the papers look at in trained networks, as figures",
    "figures": "figures of the logs of runs and sweeps",
    "experiment": "the papers' experiments that are no training run",
    "prepare_data": "downloads a data set and prepares it for --data_dir",
    "pseudo_label": "labels images for semi-supervised training",
    "import_weights": "makes a run's folder of weights that were trained elsewhere",
    "export_weights": "a run's weights for PyTorch, with a model card",
}
"""Name -> what it does, in the order in which a newcomer meets them."""

CONSOLE = "robustjax"
MODULE = "python -m robustjax"
"""The programs that take a command's name as their first argument."""

LAUNCHERS = "launch"
"""The folder of the launchers and flag files in a checkout, and of nothing in a wheel."""

_PROGRAM = "ROBUSTJAX_PROGRAM"
"""The variable by which commands that a command starts speak as it does."""

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGED = Path(__file__).resolve().parent / "flag_files"


@functools.cache
def checkout() -> Path | None:
    """The folder of the checkout that the package lies in; None if it is installed."""
    return _ROOT if (_ROOT / LAUNCHERS / "quickstart.flags").is_file() else None


def flag_file(name: str) -> Path:
    """A flag file that comes with the package.

    Args:
      name: as "trades.flags", "mnist/lrm.flags", or as a checkout has it, "launch/trades.flags".

    Returns:
      Its path; nothing says that it is there.
    """
    root = checkout()
    folder = _PACKAGED if root is None else root / LAUNCHERS
    return folder / name.removeprefix(f"{LAUNCHERS}/")


def started_by(program: str) -> None:
    """Says which program runs the command of this process, `CONSOLE` or `MODULE`."""
    os.environ[_PROGRAM] = program


def program() -> str:
    """The program that takes a command's name; "" where the launchers of a checkout are meant."""
    return os.environ.get(_PROGRAM, "" if checkout() else CONSOLE)


_command_here: list[str] = []


def begin(command: str) -> None:
    """Takes the command's name off this process's arguments, which are its flags from now on."""
    _command_here[:] = [*program().split(), command.replace("_", "-")]
    del sys.argv[1]


def started_as() -> list[str]:
    """The words before the flags of the command that this process runs."""
    return _command_here or ["python", sys.argv[0]]


def written(command: str) -> str:
    """How a person writes a command here: "robustjax train", or "python launch/train.py"."""
    if program():
        return f"{program()} {command.replace('_', '-')}"
    return f"python {LAUNCHERS}/{command}.py"


def as_written(text: str) -> str:
    """A text that names launchers, with the commands as a person writes them here."""
    if not program():
        return text
    names = "|".join(COMMANDS)
    begins = r"(?<![\w./])"  # And is not the end of another path.
    launcher = rf"{begins}(?:python )?{LAUNCHERS}/({names})\.py\b"
    said = re.sub(launcher, lambda found: written(found[1]), text)
    return re.sub(rf"{begins}{LAUNCHERS}/((?:mnist/)?\w+\.flags)\b", r"\1", said)


_EXTRA_OF = {
    "PIL": "data",
    "array_record": "data",
    "grain": "stream",
    "matplotlib": "figures",
    "pyarrow": "stream",
    "tensorboardX": "tensorboard",
    "tensorflow_datasets": "data",
    "torch": "torch",
    "wandb": "wandb",
}
"""Module -> the extra that brings it."""


def extra(name: str) -> str:
    """How an extra is installed, as text for a shell."""
    return f"pip install 'robustjax[{name}]'"


def missing_extra(error: BaseException) -> UserError | None:
    """What is said where a module cannot be imported that an extra brings; None of other errors."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if module not in _EXTRA_OF:
        return None
    return UserError(f"this needs {module}, which is not installed: {extra(_EXTRA_OF[module])}")


@contextlib.contextmanager
def naming_the_extra() -> Iterator[None]:
    """Around imports of what an extra brings: where it is missing, the extra is named.

    Raises:
      UserError: a module is missing that an extra brings.
    """
    try:
        yield
    except ImportError as error:
        said = missing_extra(error)
        if said is None:
            raise
        raise said from error
