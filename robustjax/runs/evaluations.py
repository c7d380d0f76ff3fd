"""The records of a run's evaluations: every figure that was ever measured, in evaluations.jsonl.

A record is one attack on one data set: what the attack was, what it attacked, what it found, and
which examples withstood it. Records are added and never replaced, so that a later evaluation loses
nothing of an earlier one; evaluation.json is made from them.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from robustjax.arguments import is_finite, is_number
from robustjax.errors import UserError
from robustjax.files import Path, parse_json, write_whole
from robustjax.runs.lock import exclusive

RECORDS = "evaluations.jsonl"
RECORDS_LOCK = "evaluations.lock"
RECORDS_OF_CORRUPTIONS = "corruptions.jsonl"

_FORMAT = 1

CLEAN = "clean"

WORST_CASE = "worst_case_robust_accuracy"
"""The key of the share of examples that withstand every attack of the list."""

WORST_CASE_INTERVAL = "worst_case_interval_95"

WORST_CASE_SHARED = "worst_case_on_shared_examples"
"""The key of the same over all attacks, on the examples that all of them had."""

_MAPPINGS = ("settings", "data", "checkpoint", "measured", "about")


@dataclasses.dataclass(frozen=True)
class Record:
    """What one attack found of a network.

    Attributes:
      attack: its name, such as "pgd-20"; `CLEAN` for none.
      settings: of the attack, JSON; its norm and epsilon among them, but for `CLEAN`.
      data: what was attacked: "digest", "dataset", "available_examples", and "own", whether it is
        the run's own test set.
      checkpoint: what of the run was attacked: "digest", "kind", "step", "moving_average".
      examples: how many were attacked, the first of the data.
      accuracy: the share of them that withstood, in [0, 1].
      interval: its 95 % interval.
      correct: bool [examples], those that withstood; None where only their share is known, as in
        records that were made before there was this file.
      labels: int [examples], what they are, of `CLEAN` alone, whose data the other attacks of the
        same subject share; None in older records. The names of the classes are those of
        `data["class_names"]`, where they have any.
      measured: what else was found, JSON: "warnings", "seconds", "after_each".
      about: everything else that is needed to repeat it, JSON: "seed", "batch_size", "versions"
        (the device among them), "command", the command line that made it, "attack_seconds", how
        long this attack took, and "asked", what the evaluation said of its attacks where their
        names say nothing.
    """

    attack: str
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    examples: int
    accuracy: float
    interval: tuple[float, float]
    correct: np.ndarray | None = None
    labels: np.ndarray | None = None
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def value(self) -> str:
        """Tells one attack from another: its name, its settings, and its seed."""
        return value_of(self.attack, self.settings, self.about.get("seed"))

    @property
    def subject(self) -> str:
        """Tells what is attacked from other data and other weights."""
        return subject_of(self.data, self.checkpoint)

    def to_json(self) -> str:
        """One line of the file."""
        content = dataclasses.asdict(self)
        if self.correct is not None:
            content["correct"] = base64.b64encode(np.packbits(self.correct).data).decode()
        content["labels"] = None if self.labels is None else _encoded_labels(self.labels)
        return json.dumps({"format": _FORMAT, **content})

    @classmethod
    def from_json(cls, line: str) -> Record:
        """The record of a line.

        Raises:
          ValueError: it holds none that this version can read.
        """
        content = parse_json(line)
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise UserError(f"it is no record of the format {_FORMAT}")
        return cls.from_content(content)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Record:
        """The record of JSON values, those of `to_json`.

        Raises:
          ValueError: one is missing, or makes no sense.
        """
        parts: dict[str, Any] = {name: content.get(name) for name in _MAPPINGS}
        if isinstance(parts["measured"], dict):
            known = parts["measured"].items()
            parts["measured"] = {key: value for key, value in known if value is not None}
        examples: Any = content.get("examples")
        interval: Any = content.get("interval")
        kinds = {
            "attack": isinstance(content.get("attack"), str),
            "examples": is_count(examples),
            "accuracy": is_fraction(content.get("accuracy")),
            "interval": is_interval(interval),
            **{name: isinstance(part, dict) for name, part in parts.items()},
        }
        wrong = [name for name, is_right in kinds.items() if not is_right] or _wrong_in(parts)
        if wrong:
            raise UserError(f"it is no record: {wrong[0]} is missing, or of another kind")
        correct = content.get("correct")
        if correct is not None:
            correct = _verdicts(correct, examples)
            if not math.isclose(float(correct.mean()), content["accuracy"], abs_tol=1e-9):
                raise UserError("its accuracy is not that of its verdicts")
        labels = content.get("labels")
        return cls(
            attack=content["attack"],
            examples=examples,
            accuracy=float(content["accuracy"]),
            interval=(float(interval[0]), float(interval[1])),
            correct=correct,
            labels=None if labels is None else _decoded_labels(labels, examples),
            **parts,
        )


def value_of(attack: str, settings: Mapping[str, Any], seed: Any) -> str:
    """Tells one attack from another: by its name, its settings, and its seed."""
    return json.dumps([attack, dict(settings), None if attack == CLEAN else seed], sort_keys=True)


def subject_of(data: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> str:
    """Tells what is attacked from other data and other weights; see `Record`."""
    images = data.get("digest") or [data.get("dataset")]
    weights = checkpoint.get("digest") or [checkpoint.get("kind"), checkpoint.get("step")]
    return json.dumps([images, weights])


def is_fraction(value: Any) -> TypeGuard[float]:
    """Whether a JSON value is a number in [0, 1]."""
    return is_number(value) and is_finite(value) and 0 <= value <= 1


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_interval(value: Any) -> bool:
    """Whether a JSON value is two numbers in [0, 1]."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(is_fraction, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_finite_number(value: Any) -> bool:
    return is_number(value) and is_finite(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _dict_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_right, value.values()))


_KINDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "settings": {"norm": _is_text, "epsilon": _is_finite_number},
    "data": {
        "digest": _is_text,
        "dataset": _is_text,
        "available_examples": is_count,
        "class_names": _list_of(_is_text),
    },
    "checkpoint": {"digest": _is_text, "kind": _is_text, "step": _is_finite_number},
    "measured": {
        "warnings": _list_of(_is_text),
        "after_each": _dict_of(is_fraction),
        WORST_CASE: is_fraction,
        WORST_CASE_INTERVAL: is_interval,
    },
    "about": {
        "protocol": _is_text,
        "command": _is_text,
        "versions": _dict_of(_is_text),
        "asked": _is_mapping,
    },
}
"""What the values are that are reckoned with; each may also be missing."""


def _wrong_in(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The first value that is not what it should be, as "settings.epsilon"."""
    for key, value in parts["settings"].items():
        if is_number(value) and not is_finite(value):
            return [f"settings.{key}"]
    return [
        f"{name}.{key}"
        for name, kinds in _KINDS.items()
        for key, is_right in kinds.items()
        if parts[name].get(key) is not None and not is_right(parts[name][key])
    ][:1]


def _verdicts(text: Any, examples: int) -> np.ndarray:
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except (TypeError, ValueError) as error:
        raise UserError(f"its verdicts cannot be read ({error})") from None
    if len(bits) != -(-examples // 8):
        raise UserError(f"it has the verdicts of other than its {examples} examples")
    return np.unpackbits(bits, count=examples).astype(bool)


_LABEL_TYPES = {1: "<u1", 2: "<u2", 4: "<u4"}
"""Bytes of a label -> its type; labels are written in as few as hold the largest of them."""


def _encoded_labels(labels: np.ndarray) -> str:
    largest = int(labels.max(initial=0))
    narrowest = next(kind for kind in _LABEL_TYPES.values() if largest <= np.iinfo(kind).max)
    return base64.b64encode(labels.astype(narrowest).tobytes()).decode()


def _decoded_labels(text: Any, examples: int) -> np.ndarray:
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise UserError(f"its labels cannot be read ({error})") from None
    kind = _LABEL_TYPES.get(len(content) // examples)
    if kind is None or len(content) % examples:
        raise UserError(f"it has the labels of other than its {examples} examples")
    return np.frombuffer(content, kind).astype(np.int32)


class Selection(NamedTuple):
    """The evaluation of its own test set that is wanted of a run; what is None may be anything.

    Attributes:
      attack: its name.
      examples: the first so many of the test set; infinity: all of them.
      checkpoint: "best" or "latest".
      epochs: how long the run was trained.
      settings: of the attack, those that matter.
      seed: of the random starts; a record that does not say its own has it.
    """

    attack: str
    examples: float | None = None
    checkpoint: str | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] = {}
    seed: int | None = None

    def accepts(self, record: Record) -> bool:
        """Whether a record is of this evaluation."""
        recorded = record.data.get("available_examples")
        available = recorded if is_count(recorded) else math.inf
        seed = record.about.get("seed")
        return (
            record.attack == self.attack
            and record.data.get("own") is not False
            and (None in (self.seed, seed) or seed == self.seed)
            and (self.examples is None or record.examples == min(self.examples, available))
            and self.checkpoint in (None, record.checkpoint.get("kind"))
            and self.epochs in (None, record.about.get("trained_epochs"))
            and all(
                is_same(record.settings.get(name), wanted) for name, wanted in self.settings.items()
            )
        )


class Evaluations:
    """The records in the folder of a run.

    Args:
      folder: of the run.
      name: of the file, where it is another than that of attacks.
    """

    def __init__(self, folder: Path, name: str = RECORDS) -> None:
        self._folder = Path(folder)
        self._path = self._folder / name

    def exists(self) -> bool:
        """Whether any evaluation was recorded."""
        return self._path.exists()

    def records(self, report: Callable[[str], None] = lambda line: None) -> list[Record]:
        """All records, in the order in which they were made.

        Args:
          report: told, in one line, of lines that are damaged; they are left out.
        """
        if not self._path.exists():
            return []
        found = []
        lines = self._path.read_bytes().decode(errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                found.append(Record.from_json(line))
            except ValueError as error:
                report(f"{self._path}: line {number} is left out: {error}")
        return found

    def add(self, records: Sequence[Record]) -> None:
        """Adds records, after those that other processes may have added meanwhile.

        Raises:
          OSError: they cannot be written; then nothing has changed.
        """
        with exclusive(self._folder / RECORDS_LOCK):
            before = self._path.read_bytes() if self._path.exists() else b""
            if before and not before.endswith(b"\n"):
                before += b"\n"
            lines = "".join(record.to_json() + "\n" for record in records)
            write_whole(self._path, before + lines.encode())


def best_of_each(records: Iterable[Record]) -> list[Record]:
    """One record for each attack with its settings: that of the most examples, then the newest.

    Args:
      records: of one subject, in the order in which they were made.

    Returns:
      In the order in which the attacks were first run.
    """
    found: dict[str, Record] = {}
    for record in records:
        known = found.get(record.value)
        if known is None or record.examples >= known.examples:
            found[record.value] = record
    return list(found.values())


def is_same(found: Any, wanted: Any) -> bool:
    """Whether a setting is the wanted one, numbers up to rounding."""
    both = (found, wanted)
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in both):
        return found == wanted
    return math.isclose(found, wanted, rel_tol=1e-6)
