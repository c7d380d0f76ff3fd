"""Reads arrays from .npz files of anybody's: no pickle, every checksum compared, one kind of error.

numpy compares a member with its checksum only where it happens to read to the member's end, and
allocates whatever a header promises. Here a member is read to its end, and only once its header
agrees with the number of bytes that the archive has for it.
"""

import contextlib
import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from robustjax.errors import UserError

_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

_SUFFIX = ".npy"

_AT_A_TIME = 2**24
"""Bytes that are read at once."""

_END, _END_SIGNATURE, _LISTED_ELSEWHERE = struct.Struct("<4s4H2LH"), b"PK\x05\x06", 0xFFFF
"""Of a zip file's last record, which has the number of members, if they are not too many for it."""

_MOST_COMPRESSED = 1100
"""Deflate makes at most 1032 bytes of one; a member that promises more is not what it says."""


class NpzError(UserError):
    """A file is no .npz file, or an array of it cannot be read; says why, but not which file."""


class Header(NamedTuple):
    """What a .npy member says of its array.

    Attributes:
      shape: of the array.
      dtype: of the array.
      fortran_order: whether its first axis varies fastest.
      size: of the header itself, in bytes; the numbers follow it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    size: int


class NpzFile(Mapping[str, np.ndarray]):
    """The arrays of an .npz file, by name; each is read when it is asked for.

    Args:
      source: path of the file, or its bytes.

    Attributes:
      path: of the file; None if its bytes were given.

    Raises:
      NpzError: it is no .npz file.
      OSError: it cannot be read.
    """

    def __init__(self, source: str | os.PathLike | bytes) -> None:
        self.path: Path | None
        file: IO[bytes]
        if isinstance(source, bytes):
            self.path, file = None, io.BytesIO(source)
        else:
            self.path = Path(source)
            file = self.path.open("rb")
        try:
            self._zip = zipfile.ZipFile(file)
            _require_all_members(self._zip)
        except Exception as error:
            # A damaged directory raises errors of struct, zipfile or codecs.
            with file:
                file.seek(0)
                raise NpzError(_why_no_zip(file.read(len(npy.MAGIC_PREFIX)), error)) from error
        self._file = file
        self._members = {name.removesuffix(_SUFFIX): name for name in self._zip.namelist()}

    def __enter__(self) -> "NpzFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._zip.close()
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        # Without this, Mapping would read the array.
        return name in self._members

    def __getitem__(self, name: str) -> np.ndarray:
        """An array, read whole and compared with its checksum.

        Raises:
          KeyError: there is none of that name.
          NpzError: it is no array, or damaged, or holds Python objects.
        """
        information = self.information(name)
        with _named(name), self._zip.open(information) as stream:
            return _read_numbers(stream, _read_header(stream, information))

    def information(self, name: str) -> zipfile.ZipInfo:
        """What the archive says of an array: where it begins, how large it is.

        Raises:
          KeyError: there is none of that name.
        """
        return self._zip.getinfo(self._members[name])

    def header(self, name: str) -> Header:
        """What an array's own header says, without reading the array.

        Raises:
          KeyError: there is none of that name.
          NpzError: it is no array, or not all there, or holds Python objects.
        """
        information = self.information(name)
        with _named(name), self._zip.open(information) as stream:
            return _read_header(stream, information)

    def text(self, name: str) -> str:
        """The text that a member holds, as `np.savez(file, name="text")` writes it.

        Raises:
          KeyError: there is none of that name.
          NpzError: it is no text.
        """
        found = self[name]
        if found.dtype.kind != "U" or found.size != 1:
            raise NpzError(f"the array {name!r} is {found.dtype} {list(found.shape)}, not a text")
        try:
            return str(found.item())
        except (SystemError, ValueError) as error:  # Of what is no character.
            raise NpzError(f"the array {name!r} holds what is no text ({error})") from error


def read_npz(source: str | os.PathLike | bytes) -> dict[str, np.ndarray]:
    """All arrays of an .npz file.

    Raises:
      NpzError: it is no .npz file, or an array is damaged.
      OSError: it cannot be read.
    """
    with NpzFile(source) as archive:
        return {name: archive[name] for name in archive}


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Makes an error of reading an array one that names it."""
    try:
        yield
    except MemoryError as error:
        raise NpzError(f"the array {name!r} does not fit into the memory") from error
    except Exception as error:
        # Of zipfile, zlib, lzma, struct, numpy or the system, whichever notices first.
        raise NpzError(f"the array {name!r} cannot be read: {_reason(error)}") from error


def _read_header(stream: IO[bytes], information: zipfile.ZipInfo) -> Header:
    """What a member says of its array, once that agrees with the archive.

    The stream is left at the first number.
    """
    try:
        reader = _READERS[npy.read_magic(stream)]
        shape, fortran_order, dtype = reader(stream)
    except KeyError as error:
        raise NpzError(f"its format {error} is not known") from error
    except Exception as error:
        raise NpzError(f"it is no array ({_reason(error)})") from error
    if dtype.hasobject:
        raise NpzError("it holds Python objects, which would need pickle")
    size = stream.tell()
    promised = math.prod(shape) * dtype.itemsize
    # Of nothing but empty entries there could be any number.
    endless = dtype.itemsize == 0 and math.prod(shape) > 0
    if min(shape, default=0) < 0 or endless or size + promised != information.file_size:
        raise NpzError(
            f"its header promises {promised} bytes, and {information.file_size - size} follow"
        )
    if information.file_size > _MOST_COMPRESSED * (information.compress_size + 1):
        raise NpzError(
            f"{information.compress_size} bytes cannot hold the {information.file_size} that it "
            "promises"
        )
    return Header(shape, dtype, fortran_order, size)


def _require_all_members(archive: zipfile.ZipFile) -> None:
    """Sees that no member is lost: a damaged directory may hide one, or give it another name."""
    for information in archive.filelist:
        # Compares the name in the directory with that in front of the member.
        archive.open(information).close()
    file = archive.fp
    assert file is not None  # It is open.
    file.seek(-_END.size - len(archive.comment), os.SEEK_END)
    signature, *_, listed, _, _, _ = _END.unpack(file.read(_END.size))
    if not archive.filelist and file.tell() > _END.size + len(archive.comment):
        raise zipfile.BadZipFile("it lists no member, but has more than an empty list")
    if signature == _END_SIGNATURE and listed not in (len(archive.filelist), _LISTED_ELSEWHERE):
        raise zipfile.BadZipFile(
            f"it lists {listed} members, of which {len(archive.filelist)} can be found"
        )


def _read_numbers(stream: IO[bytes], header: Header) -> np.ndarray:
    """The array; the stream is read to its end, where zipfile compares it with the checksum."""
    found = np.empty(math.prod(header.shape), header.dtype)
    content = found.view(np.uint8) if found.nbytes else np.empty(0, np.uint8)
    done = 0
    while part := stream.read(_AT_A_TIME):
        content[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    if done != found.nbytes:
        raise NpzError(f"it ends after {done} of {found.nbytes} bytes")
    return found.reshape(header.shape, order="F" if header.fortran_order else "C")


def _why_no_zip(head: bytes, error: Exception) -> str:
    if not head:
        return "it is empty"
    if head == npy.MAGIC_PREFIX:
        return "it holds one array, as numpy.save writes it"
    if head.startswith(b"PK"):
        return f"it is incomplete or damaged ({_reason(error)})"
    return f"it is not written by numpy.savez ({_reason(error)})"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0]:.200}" if lines else type(error).__name__
