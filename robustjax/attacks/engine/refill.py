"""A few rows of an attack that go on to other examples as their own are settled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.engine import cpu
from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.engine.rows import where_rows
from robustjax.attacks.engine.run import IterativeAttack
from robustjax.cache import enable_compilation_cache

_NOBODY = -1

STEPS_AT_A_TIME = 20
"""That a program takes. A call has a price, that of memory above all, which each of them shares; a
batch can be stopped between two calls."""


class Waiting:
    """Takes turns in their order; those that have meanwhile become needless are passed over.

    Args:
      pending: bool, of any shape, by turn (counted through in rows), whether it is needed. Whoever
        owns the array may change it.
    """

    def __init__(self, pending: np.ndarray) -> None:
        self._pending = pending.reshape(-1).view()
        self._next = 0

    def __bool__(self) -> bool:
        return bool(self._pending[self._next :].any())

    def take(self, most: int) -> np.ndarray:
        """The next turns, int [n], at most so many; they wait no longer."""
        turns = self._next + np.flatnonzero(self._pending[self._next :])[:most]
        self._next = turns[-1] + 1 if len(turns) else self._pending.size
        return turns


class RefilledBatch:
    """So many rows, each attacking the example of one turn after the other.

    An example is settled when it is broken or has had all its steps; it takes those that it takes
    in a batch. A broken one waits until as many rows have been idle, added up over the steps, as
    the batch has: an exchange costs about a step.

    Args:
      prepare: prepares the attack, of one run, on the examples of some turns.
      size: how many rows there are.
    """

    def __init__(self, prepare: Callable[[np.ndarray], Prepared], size: int) -> None:
        self._prepare = prepare
        self._occupants, self._left = np.full(size, _NOBODY), np.zeros(size, np.int32)
        self._settled = np.zeros(size, bool)
        self._rows: Any = None
        # From the first turns on.
        self._attack: Prepared
        self._programs: _Programs
        self._stopped = False

    @property
    def occupied(self) -> bool:
        """Whether there is anybody in the batch."""
        return bool((self._occupants != _NOBODY).any())

    def take_in(self, waiting: Waiting) -> None:
        """Begins as many turns as wait and have room."""
        free = np.flatnonzero(self._occupants == _NOBODY)
        turns = waiting.take(len(free))
        if not len(turns):
            return
        entering = free[: len(turns)]
        self._occupants[entering] = turns
        present = self._occupants != _NOBODY
        self._attack = self._prepare(
            np.where(present, self._occupants, self._occupants[entering[0]])
        )
        self._left[entering] = self._attack.steps
        begun = _start(self._attack.attack)(self._attack.inputs)
        new = np.isin(np.arange(len(present)), entering)
        self._rows = _chosen(new, begun, begun if self._rows is None else self._rows)
        self._programs = _programs(self._attack.attack, self._attack.model, self._rows)

    def advance(self, waiting: Waiting) -> None:
        """Takes steps until an exchange is due; compiles nothing, so that any thread may do it."""
        present = self._occupants != _NOBODY
        course = _Course(self._rows, self._left, np.int32(0))
        while not self._stopped:
            others_wait = np.bool_(bool(waiting))
            active = np.asarray(course.rows.active)
            if _is_due(active, course.left, course.idle, present, others_wait):
                break
            course = self._programs.steps(self._attack.model, course, present, others_wait)
            # On the host, wherever the program left them.
            course = dataclasses.replace(
                course, left=np.asarray(course.left), idle=np.asarray(course.idle)
            )
        self._rows, self._left = course.rows, np.array(course.left)
        self._settled = present & (~np.asarray(self._rows.active) | (self._left == 0))

    def let_out(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The settled turns, which leave: whether their examples are broken, and the images."""
        kept = self._programs.result(self._attack.model, self._rows)
        result = self._attack.outcome(kept)
        leaving = np.flatnonzero(self._settled)
        turns = self._occupants[leaving]
        self._occupants[leaving] = _NOBODY
        return turns, np.asarray(result.success)[leaving], np.asarray(result.images)[leaving]

    def stop(self) -> None:
        """Ends `advance` after the steps that it is at."""
        self._stopped = True


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Course:
    """What steps change: the rows; how many steps each has left; how many were idle, added up."""

    rows: Any
    left: Any
    idle: Any


class _Programs(NamedTuple):
    """Compiled parts of an attack; `steps` takes several, until an exchange is due."""

    steps: Callable[..., _Course]
    result: Callable[..., Any]


def _is_due(active: Any, left: Any, idle: Any, present: Any, others_wait: Any) -> Any:
    """Whether an exchange is due; of arrays of NumPy or of JAX."""
    running = present & active
    at_end = (running & (left == 0)).any()
    idle_by_now = idle + (~running).sum(dtype=np.int32)
    return at_end | ~running.any() | (others_wait & (idle_by_now >= len(present)))


@jax.jit
def _chosen(new: jax.Array, begun: Any, rows: Any) -> Any:
    return jax.tree.map(functools.partial(where_rows, new), begun, rows)


# A new function per entry, so that these caches bound the memory of compiled code.


@functools.lru_cache(maxsize=32)
def _start(attack: IterativeAttack) -> Callable[..., Any]:
    return jax.jit(lambda inputs: attack.start(inputs, None, np.int32(0)))


def _programs(attack: IterativeAttack, model: Any, rows: Any) -> _Programs:
    structure = jax.tree.structure((model, rows))
    return _compile(attack, structure, engine.abstract((model, rows)))


@functools.lru_cache(maxsize=32)
def _compile(
    attack: IterativeAttack, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> _Programs:
    model, rows = jax.tree.unflatten(structure, leaves)
    one_step = jax.jit(lambda model, rows: attack.step(model, rows))
    at_a_time = 1 if cpu.is_slow_in_a_loop(one_step, model, rows) else STEPS_AT_A_TIME

    def step(model, course, present):
        running = present & course.rows.active
        return _Course(
            rows=one_step(model, course.rows),
            left=course.left - present.astype(jnp.int32),
            idle=course.idle + (~running).sum(dtype=jnp.int32),
        )

    def steps(model, course, present, others_wait):
        if at_a_time == 1:
            return step(model, course, present)

        def goes_on(state):
            course, taken = state
            due = _is_due(course.rows.active, course.left, course.idle, present, others_wait)
            return (taken < at_a_time) & ~due

        course, _ = jax.lax.while_loop(
            goes_on,
            lambda state: (step(model, state[0], present), state[1] + 1),
            (course, jnp.zeros((), jnp.int32)),
        )
        return course

    of_rows, number, truth = (
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in ((rows.active.shape, jnp.int32), ((), jnp.int32), ((), bool))
    )
    present = jax.ShapeDtypeStruct(rows.active.shape, bool)
    course = _Course(rows, of_rows, number)
    lowered = (
        jax.jit(steps, donate_argnums=1).lower(model, course, present, truth),
        jax.jit(lambda model, rows: attack.result(model, rows, None)).lower(model, rows),
    )
    enable_compilation_cache()
    # At the same time, as XLA compiles one program mostly in one thread.
    with futures.ThreadPoolExecutor(len(lowered)) as pool:
        return _Programs(*pool.map(lambda program: program.compile(), lowered))
