"""Reads and writes .safetensors files: names -> arrays, and nothing that could be run.

Such a file has the length of its header in 8 bytes, the header, a JSON object that says of each
array its kind, shape and place, and then the numbers. A header is believed only once everything in
it agrees: arrays follow each other without gap or overlap and fill the file to its end.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from robustjax.errors import UserError
from robustjax.files import Path, write_whole

_LENGTH = struct.Struct("<Q")

_LONGEST_HEADER = 100_000_000
"""Bytes; the format allows no more."""

_MOST_AXES = 32

_METADATA = "__metadata__"

_KINDS: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}


class SafetensorsError(UserError):
    """A file is no .safetensors file, or is damaged; says why, but not which file."""


class Tensors(NamedTuple):
    """What a .safetensors file holds.

    Attributes:
        arrays: by name, read-only.
        metadata: texts by name.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def read_safetensors(source: str | os.PathLike | bytes) -> Tensors:
    """The arrays of a .safetensors file.

    Args:
        source: path of the file, or its bytes.

    Raises:
        SafetensorsError: it is no such file, or is damaged.
        OSError: it cannot be read.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    header, begin = _header(content)
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(map(_is_text, metadata.values())):
        raise SafetensorsError("its metadata are not texts by name")
    arrays = {}
    end = 0
    places = {name: _Place.of(name, entry) for name, entry in header.items()}
    for name, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != end:
            gap = "overlaps the one before it" if place.begin < end else "leaves a gap before it"
            raise SafetensorsError(f"the array {name!r} {gap}")
        end = place.end
        if begin + end > len(content):
            there = len(content) - begin
            raise SafetensorsError(f"it is incomplete: {name!r} ends at byte {end} of {there}")
        arrays[name] = np.frombuffer(content, place.kind, place.size, begin + place.begin)
        try:
            arrays[name] = arrays[name].reshape(place.shape)
        except ValueError as error:  # Of no numbers at all along one axis, and too many others.
            raise SafetensorsError(f"the array {name!r}: {error}") from None
    if begin + end != len(content):
        raise SafetensorsError(f"{len(content) - begin - end} bytes follow its last array")
    return Tensors({name: arrays[name] for name in places}, metadata)


def write_safetensors(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes arrays into a .safetensors file, whole or not at all.

    Args:
        path: of the file.
        arrays: by name.
        metadata: texts by name.

    Raises:
        ValueError: an array is of a kind that the format does not know, or a name is taken.
        OSError: it cannot be written.
    """
    kinds = {dtype: name for name, dtype in _KINDS.items()}
    header: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    parts = []
    end = 0
    # Wide numbers first, so that every array begins at a multiple of its own width.
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):
        array = arrays[name]
        if name == _METADATA or array.dtype not in kinds:
            raise UserError(f"the array {name!r} ({array.dtype}) has no place in such a file")
        part = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(part)],
        }
        end += len(part)
        parts.append(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return write_whole(path, b"".join((_LENGTH.pack(len(text)), text, *parts)))


class _Place(NamedTuple):
    """Where an array lies in a file, and what it is."""

    kind: np.dtype
    shape: tuple[int, ...]
    size: int
    begin: int
    end: int

    @classmethod
    def of(cls, name: str, entry: Any) -> "_Place":
        """What a header says of an array, once it agrees with itself.

        Raises:
            SafetensorsError: it does not.
        """
        fields = entry if isinstance(entry, dict) else {}
        shape: Any = fields.get("shape")
        offsets: Any = fields.get("data_offsets")
        if set(fields) != {"dtype", "shape", "data_offsets"} or not (
            _are_counts(shape)
            and len(shape) <= _MOST_AXES
            and _are_counts(offsets)
            and len(offsets) == 2
        ):
            raise SafetensorsError(f"its header says of {name!r} what is no array")
        kind = _KINDS.get(fields["dtype"]) if _is_text(fields["dtype"]) else None
        if kind is None:
            raise SafetensorsError(
                f"the array {name!r} is of the kind {fields['dtype']!r:.40}; accepted are "
                f"{', '.join(_KINDS)}"
            )
        begin, end = offsets
        size = math.prod(shape)
        if end - begin != size * kind.itemsize:
            raise SafetensorsError(
                f"the array {name!r} has {end - begin} bytes, and its shape {shape} needs "
                f"{size * kind.itemsize}"
            )
        return cls(kind, tuple(shape), size, begin, end)


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header of a file, and where its numbers begin."""
    if len(content) < _LENGTH.size:
        raise SafetensorsError("it is no .safetensors file: it is too short")
    (length,) = _LENGTH.unpack_from(content)
    begin = _LENGTH.size + length
    if length > _LONGEST_HEADER or begin > len(content):
        raise SafetensorsError(
            f"it is no .safetensors file, or incomplete: its header is to have {length} bytes"
        )
    try:
        text = content[_LENGTH.size : begin].decode()
        header = json.loads(text, object_pairs_hook=_without_repeats)
        if not isinstance(header, dict):
            raise SafetensorsError("its header is no JSON object")
        "".join(header).encode()  # Half of a pair of UTF-16 is no name.
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"it is no .safetensors file: {error}") from None
    return header, begin


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SafetensorsError("its header says two things of one name")
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        for value in values
    )
