"""What a plan consists of: steps, each of parts, each a command that leaves JSON behind."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robustjax import files

Content = dict[str, Any]


def read_content(path: Path) -> Content | None:
    """What a command has written so far, {"environment": ..., "rows": [...]}; None if nothing."""
    return files.read_json(path) if path.exists() else None


@dataclasses.dataclass(frozen=True)
class Part:
    """One command of a step.

    Attributes:
      name: within its step.
      minutes: that it is expected to take.
      command: the program and its arguments, run in the repository's root.
      output: what it writes, each result as soon as it is there.
      environment: variables that it gets beside this process's own.
      read: what `output` has to say; it may not be there yet.
      missing: says what it cannot do without and is not there; "" if nothing.
      continues: whether the command goes on from an output that an earlier call has left.
    """

    name: str
    minutes: float
    command: tuple[str, ...]
    output: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read: Callable[[Path], Content | None] = read_content
    missing: Callable[[], str] = lambda: ""
    continues: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """Parts that answer one question.

    Attributes:
      letter: its place in the order of worth.
      name: of its file of results, too.
      title: for the table.
      parts: in the order in which they are carried out.
    """

    letter: str
    name: str
    title: str
    parts: tuple[Part, ...]
