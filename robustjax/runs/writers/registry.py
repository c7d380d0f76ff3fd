"""The writers by name, and how those that a run asks for are made, called and closed."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from robustjax import installed, own_code
from robustjax.arguments import did_you_mean, shown
from robustjax.errors import UserError
from robustjax.files import Path, is_local
from robustjax.runs.log import Row

Writer = Callable[[Row], object]
"""Takes the row of an epoch; if it has a method `close`, that is called when training ends."""


class LoggedRun(NamedTuple):
    """What a writer is told of the run whose rows it gets.

    Attributes:
      folder: of the run; a writer's files go into a folder of its own in it.
      options: that decide training, name -> text, hyper-parameters of the method included.
      rows: of the epochs that are complete already, where the run is resumed; none at first. Rows
        of later epochs may have been written before the run was killed; they come again.
    """

    folder: Path
    options: Mapping[str, str]
    rows: Sequence[Row]


_PACKAGE_OF = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Of each writer of this library, whose extra has its name."""


def names() -> list[str]:
    """Those that come with the library."""
    return list(_PACKAGE_OF)


def create_writers(
    wanted: Sequence[str], workdir: str
) -> Callable[..., contextlib.AbstractContextManager[Writer]]:
    """Finds the writers that an option names, before anything of the run is touched.

    Args:
      wanted: names of this library's, or `package.module:create` of a function that takes a
        `LoggedRun` and gives a `Writer`.
      workdir: of the run.

    Returns:
      What makes them for a run, `with opened(run, writes=True) as write:`, where each row is given
      to `write`; one process of a run writes.

    Raises:
      ValueError: a name is unknown or given twice, or what it needs is not installed, or it cannot
        write into a bucket.
    """
    for name in wanted:
        if list(wanted).count(name) > 1:
            raise UserError(f"log={','.join(wanted)}: {name} is there twice; name each writer once")
        if name in _PACKAGE_OF and not is_local(workdir):
            raise UserError(
                f"log={name} cannot write into a bucket, as workdir={workdir} is; accepted there "
                f"are your own, {own_code.FORM}"
            )
    made_by = [(name, _found(name)) for name in wanted]

    @contextlib.contextmanager
    def opened(run: LoggedRun, *, writes: bool = True) -> Iterator[Writer]:
        with contextlib.ExitStack() as held:
            writers: list[Writer] = []
            for name, create in made_by if writes else ():
                writer = create(run)
                if not callable(writer):
                    raise UserError(
                        f"log={name} gives {shown(writer)}; accepted is a function of an epoch's "
                        "row, or what can be called so"
                    )
                held.callback(getattr(writer, "close", lambda: None))
                writers.append(writer)

            def write(row: Row) -> None:
                for writer in writers:
                    writer(dict(row))

            yield write

    return opened


def _found(name: str) -> Callable[[LoggedRun], Any]:
    """What makes a writer."""
    if own_code.is_own(name):
        return own_code.load("log", name)
    if name not in _PACKAGE_OF:
        raise UserError(
            f"log={name}: accepted are {', '.join(names())}, or your own, {own_code.FORM}"
            f"{did_you_mean(name, names())}"
        )
    try:
        importlib.import_module(_PACKAGE_OF[name])
    except ImportError:
        raise UserError(
            f"log={name} needs the package {_PACKAGE_OF[name]}, which is not installed: "
            f"{installed.extra(name)}"
        ) from None
    return importlib.import_module(f"robustjax.runs.writers.{name}").create
