"""Who is attacked together, and when: batch after batch, or in rows that are refilled."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import NamedTuple

import numpy as np

from robustjax.attacks.lane import Lane
from robustjax.attacks.prepared import Prepared

Prepare = Callable[[np.ndarray], Prepared]
"""Prepares the attack on the examples of some positions, an array of always the same length."""


class Settled(NamedTuple):
    """Examples whose verdict is known.

    Attributes:
      positions: int [n].
      success: bool [n], whether they are broken.
      images: float [n, ...], adversarial where they are.
    """

    positions: np.ndarray
    success: np.ndarray
    images: np.ndarray


def in_batches(prepare: Prepare, positions: np.ndarray, size: int) -> Iterator[Settled]:
    """Attacks batch after batch, each to its end.

    Args:
      prepare: the attack.
      positions: int [N], of the examples.
      size: of a batch; the last one is filled up with its last example.

    Yields:
      The examples of a batch.
    """
    for first in range(0, len(positions), size):
        group = positions[first : first + size]
        result = prepare(filled(group, size)).run()
        success, images = (np.asarray(part) for part in (result.success, result.images))
        yield Settled(group, success[: len(group)], images[: len(group)])


def refilled(prepare: Prepare, positions: np.ndarray, size: int, lanes: int) -> Iterator[Settled]:
    """Attacks in lanes of so many rows, which take in the next examples as theirs are settled.

    The lanes advance at the same time, each in a thread: XLA on CPU does not keep all cores busy
    with one small batch. Everything else happens in the caller's thread.

    Args:
      prepare: the attack, of one run, in which no row depends on the others.
      positions: int [N], of the examples.
      size: how many rows a lane has.
      lanes: how many there are at most.

    Yields:
      The examples that leave a lane together.
    """
    waiting = collections.deque(positions.tolist())
    advancing: dict[futures.Future, Lane] = {}
    with futures.ThreadPoolExecutor(lanes) as pool:
        try:
            for _ in range(min(lanes, -(-len(waiting) // size))):
                lane = Lane(prepare, size)
                lane.take_in(waiting)
                advancing[pool.submit(lane.advance, waiting)] = lane
            while advancing:
                for future in futures.wait(advancing, return_when="FIRST_COMPLETED").done:
                    future.result()
                    lane = advancing.pop(future)
                    yield Settled(*lane.let_out())
                    lane.take_in(waiting)
                    if lane.occupied:
                        advancing[pool.submit(lane.advance, waiting)] = lane
        finally:
            for lane in advancing.values():
                lane.stop()


def filled(entries: np.ndarray, size: int) -> np.ndarray:
    """Entries `[n, ...]`, at least one, and the last one again until they are `size`."""
    return np.concatenate([entries, np.repeat(entries[-1:], size - len(entries), axis=0)])
