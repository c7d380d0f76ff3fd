"""An array inside an .npz file, read where it is looked at and not before."""

import math
import mmap
import zipfile

import numpy as np

from robustjax.npz import NpzFile

_LOCAL_HEADER = 30
"""Bytes of a zip member's own header; its name and extra field follow."""


def mapped(archive: NpzFile, name: str, larger_than: float) -> np.ndarray | None:
    """A read-only array whose pages the operating system fetches from the file when they are used.

    It takes none of the process's own memory, and processes of one machine share its pages. Unlike
    reading, this does not compare the array with its checksum.

    Args:
      archive: an .npz file on the disk.
      name: of the array.
      larger_than: bytes.

    Returns:
      The array, or None if it is not larger than that, or cannot be mapped: it is compressed
      (`numpy.savez_compressed`) or in Fortran's order.

    Raises:
      NpzError: it is no array, or not all there.
    """
    information = archive.information(name)
    if information.file_size <= larger_than or information.compress_type != zipfile.ZIP_STORED:
        return None
    header = archive.header(name)
    count = math.prod(header.shape)
    if header.fortran_order or not count:
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
