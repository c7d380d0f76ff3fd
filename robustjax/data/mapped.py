"""An array inside an .npz file, read where it is looked at and not before."""

import math
import mmap
import zipfile

import numpy as np
from numpy.lib import format as npy

_LOCAL_HEADER = 30
"""Bytes of a zip member's own header; its name and extra field follow."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def mapped(archive: zipfile.ZipFile, member: str, larger_than: float) -> np.ndarray | None:
    """A read-only array whose pages the operating system fetches from the file when they are used.

    It takes none of the process's own memory, and processes of one machine share its pages. Unlike
    reading, this does not compare the array with its checksum.

    Args:
      archive: the .npz file, open for reading.
      member: name of the array in it, with ".npy".
      larger_than: bytes.

    Returns:
      The array, or None if it is not larger than that, or cannot be mapped: it is compressed
      (`numpy.savez_compressed`), has Python objects, or is not all there.
    """
    information = archive.NameToInfo.get(member)
    if information is None or information.file_size <= larger_than:
        return None
    if information.compress_type != zipfile.ZIP_STORED:
        return None
    with archive.open(member) as stream:
        read_header = _HEADERS.get(npy.read_magic(stream))
        if read_header is None:
            return None
        shape, fortran_order, dtype = read_header(stream)
        header_bytes = stream.tell()
    count = math.prod(shape)
    whole = information.file_size == header_bytes + count * dtype.itemsize
    if fortran_order or dtype.hasobject or not count or not whole:
        return None
    with open(archive.filename, "rb") as file:
        file.seek(information.header_offset)
        local_header = file.read(_LOCAL_HEADER)
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    name_bytes, extra_bytes = np.frombuffer(local_header, "<u2", count=2, offset=26).tolist()
    start = information.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes + header_bytes
    if hasattr(mmap, "MADV_RANDOM"):
        # Neighbouring rows belong to other batches: reading ahead would be for nothing.
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, dtype, count, start).reshape(shape)
