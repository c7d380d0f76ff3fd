"""What the folder of a run holds, read without loading its network or its data."""

import dataclasses
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.config import option_types
from robustjax.errors import UserError
from robustjax.files import Path, parse_json
from robustjax.runs.checkpoint import Checkpoints
from robustjax.runs.evaluations import Evaluations, Record
from robustjax.runs.log import read_rows
from robustjax.runs.names import (
    CHECKPOINTS,
    DIAGNOSIS,
    EVALUATION,
    EXAMPLES,
    FIGURES,
    FLAGS,
    METRICS,
    ORIGIN,
    TRANSFER,
)

_LEAST_PNG = 44
"""Bytes of a PNG's signature, head and end."""

_SIGNATURE, _END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class FoundFigure(NamedTuple):
    """A PNG.

    Attributes:
      name: its path in the run's folder.
      content: of the file.
      width: in pixels.
      height: in pixels.
    """

    name: str
    content: bytes
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The files of a run; what is not there is None or empty.

    Attributes:
      name: what the run is called beside others.
      workdir: its folder, as it was given.
      flags: of its flags.txt, name -> value; a method's own hyper-parameters by their names.
      rows: of its metrics.jsonl.
      best_step: the step of its best checkpoint; None if none can be read that was measured.
      evaluation: content of its evaluation.json.
      records: of its evaluations, in the order in which they were made.
      diagnosis: content of its diagnosis.json.
      transfer: content of its transfer.json.
      examples: content of its adversarial_examples.json.
      origin: content of its weights.json, where they were trained elsewhere.
      figures: PNGs of the folder and its figures/, by name.
      damaged: names of PNGs that are not whole.
    """

    name: str
    workdir: str
    flags: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]] = ()
    best_step: int | None = None
    evaluation: Mapping[str, Any] | None = None
    records: Sequence[Record] = ()
    diagnosis: Any = None
    transfer: Any = None
    examples: Any = None
    origin: Any = None
    figures: Sequence[FoundFigure] = ()
    damaged: Sequence[str] = ()


class DamagedRun(UserError):
    """A file of a run is damaged."""


def read_runs(
    workdirs: Sequence[str], report: Callable[[str], None] | None = None
) -> list[RunFolder]:
    """Reads the folders of runs, each called by as few of its last parts as tell it apart.

    Args:
      workdirs: the folders.
      report: told of a run with a damaged file, which is then left out if there are others.

    Raises:
      ValueError: no folder is given, or one twice, or one holds no run.
      DamagedRun: a file of a run is damaged, and nobody is to be told, or no run is left.
    """
    if not workdirs:
        raise UserError("workdirs is not given; name the folders of one or more runs")
    places = require_distinct("workdirs", workdirs)
    found, damaged = [], []
    for workdir, name in zip(workdirs, short_names(places), strict=True):
        try:
            found.append(read_run(workdir, name))
        except DamagedRun as error:
            damaged.append(error)
    if damaged and (report is None or not found):
        raise damaged[0]
    if report is not None:
        for damage in damaged:
            report(str(damage))
    return found


def require_distinct(flag: str, folders: Sequence[str]) -> list[str]:
    """Refuses a folder that is given twice, also by two names.

    Returns:
      The folders without links and relative parts.

    Raises:
      ValueError: names the flag and the folder.
    """
    first: dict[str, str] = {}
    for folder in folders:
        place = folder if "://" in folder else os.path.realpath(folder)
        if place in first:
            same = "" if first[place] == folder else f" (the same folder as {first[place]})"
            raise UserError(f"{flag}: {folder} is given twice{same}; name each run once")
        first[place] = folder
    return list(first)


def read_run(workdir: str, name: str) -> RunFolder:
    """Reads the folder of a run.

    Args:
      workdir: the folder.
      name: what the run is called.

    Raises:
      ValueError: it holds no run, or a file in it is damaged.
    """
    folder = Path(workdir)
    if not (folder / FLAGS).exists():
        there = "there is no such folder" if not folder.is_dir() else f"it has no {FLAGS}"
        raise UserError(f"workdirs={workdir} holds no run: {there}")
    figures, damaged = _figures(folder)
    log, evaluation = folder / METRICS, _evaluation(folder)
    return RunFolder(
        name=name,
        workdir=str(workdir),
        flags=parse_flags((folder / FLAGS).read_bytes().decode(errors="replace")),
        rows=read_rows(log) if log.exists() else (),
        best_step=_best_step(folder / CHECKPOINTS),
        evaluation=evaluation,
        records=Evaluations(folder).records(),
        diagnosis=_json(folder / DIAGNOSIS),
        transfer=_json(folder / TRANSFER),
        examples=_json(folder / EXAMPLES),
        origin=_json(folder / ORIGIN),
        figures=figures,
        damaged=damaged,
    )


def parse_flags(text: str) -> dict[str, str]:
    """The flags of a flags.txt as they stand there, also those that this version does not know.

    `--name` and `--noname` of options that are on or off become "true" and "false", and
    `--set=name=value` the hyper-parameter `name`.
    """
    switches = {name for name, kind in option_types().items() if kind is bool}
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip().startswith("-"):
            continue
        name, equals, value = line.strip().lstrip("-").partition("=")
        if not equals:
            off = name.startswith("no") and name[2:] in switches
            name, value = (name[2:], "false") if off else (name, "true")
        elif name == "set" and "=" in value:
            name, _, value = value.partition("=")
        found[name] = value
    return found


def short_names(folders: Sequence[str]) -> list[str]:
    """As few of each folder's last parts as tell the folders apart."""
    parts = [[part for part in folder.split("/") if part] or [folder] for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(folders)


def _json(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DamagedRun(f"{path} is damaged: {error}; make it again, or remove it") from None


def _evaluation(folder: Path) -> Mapping[str, Any] | None:
    """The evaluation.json of a run."""
    evaluation = _json(folder / EVALUATION)
    if evaluation is not None and not isinstance(evaluation, dict):
        raise DamagedRun(f"{folder / EVALUATION} is not an evaluation: it is no JSON object")
    return evaluation


def _best_step(directory: Path) -> int | None:
    try:
        with Checkpoints(directory, keep_best=True, read_only=True) as checkpoints:
            return checkpoints.best_step()
    except Exception:  # Orbax's, of what is damaged, or is removed by a run that goes on.
        return None


def _figures(folder: Path) -> tuple[list[FoundFigure], list[str]]:
    found, damaged = [], []
    for place, prefix in ((folder, ""), (folder / FIGURES, f"{FIGURES}/")):
        if not place.is_dir():
            continue
        for path in sorted(place.iterdir(), key=lambda path: path.name):
            if path.suffix.lower() != ".png" or not path.is_file():
                continue
            content = path.read_bytes()
            if is_whole_png(content):
                found.append(FoundFigure(prefix + path.name, content, *size_of_png(content)))
            else:
                damaged.append(prefix + path.name)
    return found, damaged


def is_whole_png(content: bytes) -> bool:
    """Whether bytes begin and end as a PNG does."""
    whole = content.startswith(_SIGNATURE) and content.endswith(_END)
    return whole and len(content) > _LEAST_PNG


def size_of_png(content: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the head of a PNG."""
    return struct.unpack(">II", content[16:24])
