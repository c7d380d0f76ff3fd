"""A few rows of an attack that go on to other examples as their own are settled."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from robustjax.attacks.iteration import IterativeAttack
from robustjax.attacks.prepared import Prepared
from robustjax.attacks.rows import where_rows

_NOBODY = -1


class Lane:
    """So many rows, a step at a time.

    An example is settled when it is broken or has had all its steps; it takes those that it takes
    in a batch. A broken one waits until as many rows have been idle, added up over the steps, as
    the lane has: an exchange costs about a step.

    Args:
      prepare: prepares the attack, of one run, on the examples of some positions.
      size: how many rows there are.
    """

    def __init__(self, prepare: Callable[[np.ndarray], Prepared], size: int) -> None:
        self._prepare = prepare
        self._occupants, self._left = np.full(size, _NOBODY), np.zeros(size, np.int64)
        self._settled = np.zeros(size, bool)
        self._attack: Prepared | None = None
        self._rows: Any = None
        self._step: Callable[..., Any] | None = None
        self._stopped = False

    @property
    def occupied(self) -> bool:
        """Whether there is anybody in the lane."""
        return bool((self._occupants != _NOBODY).any())

    def take_in(self, waiting: collections.deque[int]) -> None:
        """Begins the attack on as many examples as wait and have room, and takes them away."""
        free = np.flatnonzero(self._occupants == _NOBODY)
        entering = free[: len(waiting)]
        if not len(entering):
            return
        self._occupants[entering] = [waiting.popleft() for _ in entering]
        present = self._occupants != _NOBODY
        self._attack = self._prepare(
            np.where(present, self._occupants, self._occupants[entering[0]])
        )
        self._left[entering] = self._attack.steps
        begun = _start(self._attack.attack)(self._attack.inputs)
        new = np.isin(np.arange(len(present)), entering)
        self._rows = _chosen(new, begun, begun if self._rows is None else self._rows)
        self._step = _compiled_step(self._attack.attack, self._attack.model, self._rows)

    def advance(self, waiting: collections.deque[int]) -> None:
        """Takes steps until an exchange is due; compiles nothing, so that any thread may do it."""
        idle = 0
        while not self._stopped:
            present = self._occupants != _NOBODY
            running = present & np.asarray(self._rows.active)
            idle += (~running).sum()
            at_end = running & (self._left == 0)
            self._settled = present & ~running | at_end
            if at_end.any() or not running.any() or (waiting and idle >= len(present)):
                return
            self._rows = self._step(self._attack.model, self._rows)
            self._left -= 1

    def let_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The settled examples, who leave: their positions, whether they are broken, images."""
        result = self._attack.outcome(
            _result(self._attack.attack, jax.tree.structure(self._attack.model))(
                self._attack.model, self._rows
            )
        )
        leaving = np.flatnonzero(self._settled)
        positions = self._occupants[leaving]
        self._occupants[leaving] = _NOBODY
        return positions, np.asarray(result.success)[leaving], np.asarray(result.images)[leaving]

    def stop(self) -> None:
        """Ends `advance` after the step that it is at."""
        self._stopped = True


@jax.jit
def _chosen(new: jax.Array, begun: Any, rows: Any) -> Any:
    return jax.tree.map(functools.partial(where_rows, new), begun, rows)


# A new function per entry, so that these caches bound the memory of compiled code.


@functools.lru_cache(maxsize=32)
def _start(attack: IterativeAttack) -> Callable[..., Any]:
    return jax.jit(lambda inputs: attack.start(inputs, None, np.int32(0)))


@functools.lru_cache(maxsize=32)
def _result(attack: IterativeAttack, model_structure: Any) -> Callable[..., Any]:
    del model_structure
    return jax.jit(lambda model, rows: attack.result(model, rows, None))


def _compiled_step(attack: IterativeAttack, model: Any, rows: Any) -> Callable[..., Any]:
    leaves, structure = jax.tree.flatten((model, rows))
    return _compile_step(attack, structure, tuple(_abstract(leaf) for leaf in leaves))


@functools.lru_cache(maxsize=32)
def _compile_step(
    attack: IterativeAttack, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> Callable[..., Any]:
    def step(model, rows):
        return attack.step(model, rows)

    arguments = jax.tree.unflatten(structure, leaves)
    return jax.jit(step, donate_argnums=1).lower(*arguments).compile()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
