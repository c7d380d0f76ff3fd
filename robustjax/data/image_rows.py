"""Rows of images that are not copied into memory: those of a file, and of two arrays joined."""

import math
import mmap
import zipfile

import numpy as np
from numpy.typing import DTypeLike

from robustjax.errors import UserError
from robustjax.npz import NpzFile

_LOCAL_HEADER = 30
"""Bytes of a zip member's own header; its name and extra field follow."""


def mapped(archive: NpzFile, name: str, larger_than: float) -> np.ndarray | None:
    """A read-only array whose pages the operating system fetches from the file when they are used.

    It takes none of the process's own memory, and processes of one machine share its pages. Unlike
    reading, this does not compare the array with its checksum.

    Args:
      archive: an .npz file.
      name: of the array.
      larger_than: bytes.

    Returns:
      The array, or None if it is not larger than that, or cannot be mapped: it is no file
      on the disk, is compressed (`numpy.savez_compressed`) or in Fortran's order.

    Raises:
      NpzError: it is no array, or not all there.
    """
    information = archive.information(name)
    if information.file_size <= larger_than or information.compress_type != zipfile.ZIP_STORED:
        return None
    header = archive.header(name)
    count = math.prod(header.shape)
    if archive.path is None or header.fortran_order or not count:
        return None
    with archive.path.open("rb") as file:
        file.seek(information.header_offset)
        local_header = file.read(_LOCAL_HEADER)
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    name_bytes, extra_bytes = np.frombuffer(local_header, "<u2", count=2, offset=26).tolist()
    start = information.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes + header.size
    if hasattr(mmap, "MADV_RANDOM"):
        # Neighbouring rows belong to other batches: reading ahead would be for nothing.
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, header.dtype, count, start).reshape(header.shape)


class JoinedRows:
    """The rows of one array and, after them, those of another.

    Args:
      first: [N, ...].
      second: [M, ...], of the same row shape and dtype; may lie in a file, see
        `mapped`.

    Attributes:
      parts: the two arrays.

    Raises:
      ValueError: the two do not fit each other.
    """

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        if first.shape[1:] != second.shape[1:] or first.dtype != second.dtype:
            raise UserError(
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

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows in one array, for what has to see them all."""
        if copy is False:
            raise UserError("joined rows lie in no single array; a copy is needed")
        return np.concatenate([self._first, self._second]).astype(dtype or self.dtype, copy=False)
