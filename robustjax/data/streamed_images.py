"""Images that are read and decoded when a batch has them, for sets that no memory holds."""

import importlib.util
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from robustjax import installed
from robustjax.errors import UserError

_THREADS = 16
"""That read and decode; most of them wait for the disk."""

_AHEAD = 64
"""Images that are decoded and not yet taken."""


class Records(Protocol):
    """What has a record at every position, for any thread."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Any: ...


class StreamedImages:
    """Stands for images uint8 [N, H, W, C] where those of a few positions are wanted at a time.

    grain reads and decodes them in threads. Which images come out for which positions is as in an
    array, so the order of the data stays what it is.

    Args:
      records: encoded images, as bytes or names of files; read by any thread.
      decode: gives the pixels of a record, uint8 [H, W, C].
      shape: (H, W, C) that all have.
      rows: positions in `records`, int [N]; all of them if not given.
      name: of the data set, for messages.

    Raises:
      ValueError: grain is not installed.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        records: Records,
        decode: Callable[[Any], np.ndarray],
        shape: tuple[int, ...],
        rows: np.ndarray | None = None,
        name: str = "images",
    ) -> None:
        if importlib.util.find_spec("grain") is None:
            raise UserError(
                f"dataset={name}: stream reads images with grain, which is not installed: "
                f"{installed.extra('stream')}"
            )
        self._records, self._decode, self._name = records, decode, name
        self._rows = np.arange(len(records)) if rows is None else rows
        self.shape = (len(self._rows), *shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all images decoded."""
        return int(np.prod(self.shape, dtype=np.int64))

    def select(self, rows: np.ndarray) -> "StreamedImages":
        """Those at some positions, a mask or integers; nothing is read."""
        return StreamedImages(
            self._records, self._decode, self.shape[1:], self._rows[rows], self._name
        )

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """The images at some positions, uint8 [M, H, W, C], in that order.

        Raises:
          ValueError: an image has another size than the rest, or cannot be read.
        """
        import grain

        wanted = self._rows[rows]
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        if not len(wanted):
            return images
        read = grain.MapDataset.source(_Picked(self._records, wanted)).map(self._decode)
        threads = min(_THREADS, len(wanted))
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=_AHEAD)
        for row, pixels in enumerate(read.to_iter_dataset(options)):
            if pixels.shape != self.shape[1:]:
                raise UserError(
                    f"dataset={self._name}: image {wanted[row]} has "
                    f"{pixels.shape[0]}x{pixels.shape[1]} pixels, and the first has "
                    f"{self.shape[1]}x{self.shape[2]}; add image_size=PIXELS"
                )
            images[row] = pixels
        return images

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """All images, for what has to see them all."""
        if copy is False:
            raise UserError("streamed images lie in no array; a copy is needed")
        return self[:].astype(dtype or self.dtype, copy=False)


class _Picked:
    """Some of the records, in an order, as grain takes a source."""

    def __init__(self, records: Records, rows: np.ndarray) -> None:
        self._records, self._rows = records, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: Any) -> Any:
        return self._records[int(self._rows[position])]


def require_memory(name: str, count: int, shape: tuple[int, ...]) -> None:
    """Refuses to decode more images than the machine has memory for.

    Args:
      name: of the data set.
      count: of the images.
      shape: (H, W, C) of each, one byte a number.

    Raises:
      ValueError: they do not fit; says what to do.
    """
    needed = count * int(np.prod(shape, dtype=np.int64))
    there = _memory()
    if there and needed > there:
        raise UserError(
            f"dataset={name}: {count} images of {'x'.join(map(str, shape))} need "
            f"{needed / 2**30:.1f} GiB, and this machine has {there / 2**30:.1f} GiB of memory; "
            "stream=True reads them as they are needed, a smaller image_size= makes fewer bytes"
        )


def _memory() -> int:
    """Bytes of the machine's memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
