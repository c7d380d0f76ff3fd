"""Whose turn it is to be attacked: batch after batch, or in rows that are refilled.

A turn is a number, of which only the caller knows what it stands for: an example and a target.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent import futures
from typing import NamedTuple

import numpy as np

from robustjax.attacks.engine.prepared import Prepared
from robustjax.attacks.engine.refill import RefilledBatch, Waiting

Prepare = Callable[[np.ndarray], Prepared]
"""Prepares the attack of some turns, an array of always the same length; each is one run."""


class Settled(NamedTuple):
    """Turns that are over.

    Attributes:
      turns: int [n].
      success: bool [n], whether the example is broken.
      images: float [n, ...], adversarial where it is.
    """

    turns: np.ndarray
    success: np.ndarray
    images: np.ndarray


def in_batches(prepare: Prepare, waiting: Waiting, size: int) -> Generator[Settled]:
    """Attacks batch after batch, each to its end.

    Args:
      prepare: the attack.
      waiting: the turns.
      size: of a batch; the last one is filled up with its last turn.

    Yields:
      The turns of a batch.
    """
    while waiting:
        group = waiting.take(size)
        result = prepare(filled(group, size)).run()
        success, images = (np.asarray(part) for part in (result.success, result.images))
        yield Settled(group, success[: len(group)], images[: len(group)])


def refilled(prepare: Prepare, waiting: Waiting, size: int, at_once: int) -> Generator[Settled]:
    """Attacks in batches of so many rows, which take in the next turns as theirs are over.

    They advance at the same time, each in a thread: XLA on CPU does not keep all cores busy with
    one small batch. Everything else happens in the caller's thread.

    Args:
      prepare: the attack, in which no row depends on the others.
      waiting: the turns.
      size: how many rows a batch has.
      at_once: how many there are at most.

    Yields:
      The turns that leave a batch together.
    """
    advancing: dict[futures.Future, RefilledBatch] = {}
    with futures.ThreadPoolExecutor(at_once) as pool:
        try:
            while waiting and len(advancing) < at_once:
                batch = RefilledBatch(prepare, size)
                batch.take_in(waiting)
                advancing[pool.submit(batch.advance, waiting)] = batch
            while advancing:
                for future in futures.wait(advancing, return_when="FIRST_COMPLETED").done:
                    future.result()
                    batch = advancing.pop(future)
                    yield Settled(*batch.let_out())
                    batch.take_in(waiting)
                    if batch.occupied:
                        advancing[pool.submit(batch.advance, waiting)] = batch
        finally:
            for batch in advancing.values():
                batch.stop()


def filled(entries: np.ndarray, size: int) -> np.ndarray:
    """Entries `[n, ...]`, at least one, and the last one again until they are `size`."""
    return np.concatenate([entries, np.repeat(entries[-1:], size - len(entries), axis=0)])
