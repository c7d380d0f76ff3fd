"""Where an ensemble of attacks stands, and the file that survives an interruption."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np

from robustjax.errors import UserError
from robustjax.files import Path, parse_json, write_whole
from robustjax.npz import NpzFile

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
      doubted: bool [N], an attack said that it had broken the example, and its image did not stand
        a second look.
    """

    images: np.ndarray
    broken_by: np.ndarray
    pending: np.ndarray
    stage: int
    seconds: dict[str, float]
    doubted: np.ndarray

    @classmethod
    def begin(cls, images: np.ndarray, wrong: np.ndarray) -> State:
        """Before the first stage; `wrong` `[N]` says which clean images are misclassified."""
        broken_by = np.where(wrong, FROM_THE_OUTSET, STANDING).astype(np.int8)
        none = np.zeros(len(wrong), bool)
        return cls(images.copy(), broken_by, np.zeros((0, len(wrong)), bool), -1, {}, none)

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


class StateError(UserError):
    """A file is damaged, or no state, or that of another evaluation."""


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
        doubted=state.doubted,
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
      belongs_to: what the state has to be of, as it was saved.

    Raises:
      ValueError: the file is no state, or one of other arguments.
    """
    if not path.exists():
        return None
    try:
        with NpzFile(path.read_bytes()) as stored:
            found = dict(stored)
            other, seconds = stored.text("belongs_to"), parse_json(stored.text("seconds"))
        state = _state(found, seconds, clean)
    except KeyError as error:
        raise StateError(
            f"{path} holds no state of an evaluation (it has no {error}); remove it"
        ) from error
    except (OSError, ValueError) as error:
        raise StateError(f"{path} holds no state of an evaluation ({error}); remove it") from error
    if other != belongs_to:
        raise StateError(
            f"{path} belongs to an evaluation of another network, other images or other settings; "
            "remove it, or name another file"
        )
    return state


def _state(found: dict[str, np.ndarray], seconds: Any, clean: np.ndarray) -> State:
    """The state of the arrays of a file, if they are those of one."""
    changed, images, broken_by = found["changed"], found["images"], found["broken_by"]
    pending, stage, doubted = found["pending"], found["stage"], found["doubted"]
    whole = (
        changed.ndim == 1
        and changed.dtype.kind == "i"
        and np.all((changed >= 0) & (changed < len(clean)))
        and images.shape == (len(changed), *clean.shape[1:])
        and images.dtype == clean.dtype
        and (broken_by.shape, broken_by.dtype.kind) == ((len(clean),), "i")
        and (pending.ndim, pending.dtype) == (2, np.dtype(bool))
        and pending.shape[1] == len(clean)
        and (doubted.shape, doubted.dtype) == ((len(clean),), np.dtype(bool))
        and (stage.shape, stage.dtype.kind) == ((), "i")
        and isinstance(seconds, dict)
    )
    if not whole:
        raise UserError("it is damaged, or of an earlier form")
    every = clean.copy()
    every[changed] = images
    return State(every, broken_by.astype(np.int8), pending, int(stage), seconds, doubted)
