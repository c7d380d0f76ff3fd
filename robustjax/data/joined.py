"""Two sets of images under one numbering, without copying them together."""

import numpy as np
from numpy.typing import DTypeLike


class JoinedRows:
    """The rows of one array and, after them, those of another.

    Args:
      first: [N, ...].
      second: [M, ...], of the same row shape and dtype; may lie in a file, see
        `robustjax.data.mapped`.

    Attributes:
      parts: the two arrays.

    Raises:
      ValueError: the two do not fit each other.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
            raise ValueError(
                f"rows of {first.dtype}{list(first.shape[1:])} cannot be joined with rows of "
                f"{second.dtype}{list(second.shape[1:])}"
            )
        self._first, self._second = self.parts = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])
        self.dtype = first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The rows at some positions, [len(rows), ...]; only they are read.

        Args:
          rows: integers [B], each in 0..N + M - 1.
        """
        of_second = rows >= len(self._first)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        found[~of_second] = self._first[rows[~of_second]]
        found[of_second] = self._second[rows[of_second] - len(self._first)]
        return found

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        """All rows in one array, for what has to see them all."""
        if copy is False:
            raise ValueError("joined rows lie in no single array; a copy is needed")
        return np.concatenate([self._first, self._second]).astype(dtype or self.dtype, copy=False)
