"""Any number of rows in batches of one shape, so that one compiled program serves them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Batch(NamedTuple):
    """Which rows are computed together.

    Attributes:
      rows: int [size], positions; a last, smaller batch is filled up with its last row.
      kept: the rows that are not filling, of all.
      done: how many of all rows are done after it.
    """

    rows: np.ndarray
    kept: slice
    done: int

    def without_filling(self, values: ArrayLike) -> np.ndarray:
        """What belongs to the rows that are kept, of something computed for all of `rows`."""
        return np.asarray(values)[: self.kept.stop - self.kept.start]


def batches_of_one_shape(total: int, size: int, first: int = 0) -> Iterator[Batch]:
    """The rows `first` to `total`, so many at a time.

    Args:
      total: how many rows there are.
      size: of a batch, 1 or more.
      first: how many of them are done already.
    """
    for start in range(first, total, size):
        stop = min(start + size, total)
        yield Batch(np.minimum(np.arange(start, start + size), total - 1), slice(start, stop), stop)
