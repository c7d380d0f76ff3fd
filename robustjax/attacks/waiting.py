"""Turns that wait."""

from __future__ import annotations

import numpy as np


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
