"""Where an ensemble of attacks stands, and the file that survives an interruption."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np

from robustjax.files import Path, write_whole

SECONDS_BETWEEN_SAVES = 30.0

STANDING, FROM_THE_OUTSET = -1, -2
"""`State.broken_by` of an example that nothing has broken, and of one that is wrong as it is."""


@dataclasses.dataclass
class State:
    """Where an ensemble stands; brought forward in place.

    Attributes:
      images: float [N, ...], adversarial where an attack has broken the example, else clean.
      broken_by: int8 [N], the number of the attack that broke the example, or one of the two above.
      pending: bool [T, N], the targets of the current stage (one if it has none) that each example
        has still to face.
      stage: the current stage; -1 before the first one.
      seconds: time spent in each attack.
    """

    images: np.ndarray
    broken_by: np.ndarray
    pending: np.ndarray
    stage: int
    seconds: dict[str, float]

    @classmethod
    def begin(cls, images: np.ndarray, wrong: np.ndarray) -> State:
        """Before the first stage; `wrong` `[N]` says which clean images are misclassified."""
        broken_by = np.where(wrong, FROM_THE_OUTSET, STANDING).astype(np.int8)
        return cls(images.copy(), broken_by, np.zeros((0, len(wrong)), bool), -1, {})

    @property
    def robust(self) -> np.ndarray:
        """Bool [N], what nothing has broken so far."""
        return self.broken_by == STANDING

    def begin_stage(self, number: int, targets: int) -> None:
        """Begins a stage, in which all that still stands faces so many targets."""
        self.stage = number
        self.pending = np.tile(self.robust, (targets, 1))

    def withstood(self, target: int, position: int) -> None:
        """Takes note that an example has withstood a target."""
        self.pending[target, position] = False

    def broken(self, target: int, position: int, attack: int, image: np.ndarray) -> None:
        """Takes note that a target has broken an example; the targets after it are needless then.

        Those before it may still break it too: verdict and image are in the end what they are if
        targets are faced one after the other.

        Args:
          target: its number in the stage.
          position: of the example.
          attack: the number of the attack.
          image: float [...], adversarial.
        """
        if self.pending[target, position]:
            self.pending[target:, position] = False
            self.broken_by[position] = attack
            self.images[position] = image


def identity(*parts: Any) -> str:
    """A digest of what a state belongs to: arrays by their content, anything else as JSON."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part).encode())
    return digest.hexdigest()


def save(state: State, path: Path, belongs_to: str) -> None:
    """Writes the state whole or not at all."""
    content = io.BytesIO()
    changed = np.flatnonzero(state.broken_by >= 0)
    np.savez(
        content,
        changed=changed,
        images=state.images[changed],
        broken_by=state.broken_by,
        pending=state.pending,
        stage=state.stage,
        seconds=json.dumps(state.seconds),
        belongs_to=belongs_to,
    )
    write_whole(path, content.getvalue())


def load(path: Path, clean: np.ndarray, belongs_to: str) -> State | None:
    """The state in a file; None if there is no file.

    Args:
      path: of the file.
      clean: float [N, ...], the clean images.
      belongs_to: of `identity`.

    Raises:
      ValueError: the file is no state, or one of other arguments.
    """
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        other = str(found["belongs_to"])
        if found["pending"].ndim != 2:
            raise ValueError("it is of an earlier form")
        images = clean.copy()
        images[found["changed"]] = found["images"]
        state = State(
            images,
            found["broken_by"],
            found["pending"],
            int(found["stage"]),
            json.loads(str(found["seconds"])),
        )
    except (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no state of an evaluation ({error}); remove it") from error
    if other != belongs_to:
        raise ValueError(
            f"{path} belongs to an evaluation of another network, other images or other settings; "
            "remove it, or name another file"
        )
    return state
