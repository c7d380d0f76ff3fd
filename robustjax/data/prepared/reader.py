"""Reading data sets that lie prepared in the tfds layout, without TensorFlow.

A prepared data set is a folder DATA_DIR/NAME/VERSION with `dataset_info.json`, `features.json` and
ArrayRecord files. It is opened from that folder alone, so tfds never looks for its own builders and
never tries the network.

Remote folders: gs:// paths are kept as they are. Listing them needs gcsfs (`pip install gcsfs`);
the records are opened by array_record itself, whose Linux wheels can read Google Cloud Storage from
0.8.3 on (0.8.1 cannot: "open() failed: No such file or directory"). Without a network it retries
for minutes.
"""

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from robustjax import installed
from robustjax.arguments import did_you_mean, shown
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.data.image_files import MODES, decode_image
from robustjax.data.prepared import cache
from robustjax.data.prepared.feature_classes import require_own_classes
from robustjax.data.streamed_images import StreamedImages, require_memory
from robustjax.errors import UserError

if TYPE_CHECKING:
    from etils import epath

_PACKAGES = {
    "tensorflow_datasets": "tensorflow-datasets",
    "array_record": "array_record",
    "importlib_resources": "importlib_resources",
    "PIL": "pillow",
    "etils": "etils[epath]",
}
_CHUNK = 2048
# Raise this when the arrays that come out for the same files change.
_CACHE_VERSION = 1


@dataclass(frozen=True)
class Prepared:
    """A prepared data set on disk.

    Attributes:
        directory: The folder of the version, that of `dataset_info.json`.
        splits: Number of examples of each split.
        filenames: Every file of the folder, with its size in bytes and time of change.
    """

    directory: str
    splits: dict[str, int]
    filenames: Sequence[tuple[str, int, float]]


def require_packages(name: str) -> None:
    """Check that the packages for reading tfds data sets are there.

    Args:
        name: The data set that was asked for, for the message.

    Raises:
        DataError: If one is missing.
    """
    missing = [package for module, package in _PACKAGES.items() if not _is_installed(module)]
    if missing:
        raise DataError(
            f"dataset={name} is read with tensorflow-datasets (without TensorFlow), but "
            f"{', '.join(missing)} cannot be imported: {installed.extra('data')}, or use the "
            "embedded set: dataset=digits"
        )


def find(tfds_name: str, data_dir: str) -> Prepared | None:
    """Look for a prepared data set.

    Args:
        tfds_name: Name in tfds, with "/CONFIG" where there are configurations.
        data_dir: Folder of all prepared data sets; a local path or gs://.

    Returns:
        The newest version that is prepared as ArrayRecord files, or None where there is none.

    Raises:
        DataError: If the folder cannot be looked into, or holds only other formats.
    """
    from etils import epath

    other_formats = []
    try:
        root = epath.Path(data_dir).expanduser() / tfds_name
        folders = [path for path in root.iterdir() if _version(path.name)] if root.is_dir() else []
        for folder in sorted(folders, key=lambda path: _version(path.name) or (), reverse=True):
            info_path = folder / "dataset_info.json"
            if not info_path.exists() or not (folder / "features.json").exists():
                continue
            info = _read_info(info_path)
            if info.get("fileFormat") == "array_record":
                return _describe(folder, info)
            other_formats.append(f"{folder} ({info.get('fileFormat', 'tfrecord')})")
    except DataError:
        raise
    except Exception as error:
        # The file systems behind epath raise errors of their own for what they cannot open.
        raise DataError(f"data_dir={data_dir} cannot be read: {error}") from error
    if other_formats:
        raise DataError(
            f"{', '.join(other_formats)} is prepared in a format that only TensorFlow reads; "
            "prepare it as array_record files in another data_dir"
        )
    return None


def read(
    name: str, prepared: Prepared, split: str, image_size: int = 0, *, stream: bool = False
) -> Dataset:
    """Decode one split, or take it from the cache.

    The cache is asked with the path, sizes and times of change of all files, so a data set that was
    prepared anew is decoded anew.

    Args:
        name: Name for the result.
        prepared: Where the data set lies.
        split: One of its splits.
        image_size: If not 0, images become squares of so many pixels, as `read_image` makes them;
            if 0, all must have one size.
        stream: Whether an image is read and decoded when a batch has it (`StreamedImages`); the
            labels are read at once, and kept in the cache.

    Returns:
        The split, in the order of its records.

    Raises:
        DataError: If there is no such split, if the examples are not images with a class, or if the
            files are damaged.
    """
    if split not in prepared.splits:
        raise DataError(
            f"dataset={name} has no split {split!r}; {prepared.directory} has "
            f"{', '.join(prepared.splits)}{did_you_mean(split, prepared.splits)}"
        )
    if stream:
        return _streamed(name, prepared, split, image_size)
    resized = [image_size] if image_size else []
    words = [_word(name), _word(split), *map(str, resized)]
    entry = "-".join([*words, cache.digest(prepared.directory)[:12]])
    fingerprint = cache.digest(
        [_CACHE_VERSION, name, split, prepared.directory, list(prepared.filenames), *resized]
    )
    arrays = cache.read(entry, fingerprint)
    if arrays is None:
        arrays = _decode(name, prepared, split, image_size)
        cache.write(entry, fingerprint, arrays)
    class_names = tuple(str(class_name) for class_name in arrays["class_names"])
    return Dataset(
        name, arrays["images"], arrays["labels"], int(arrays["num_classes"]), class_names
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(name: str) -> tuple[int, ...] | None:
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", name)
    return tuple(int(part) for part in match.groups()) if match else None


def _read_info(path: "epath.Path") -> dict[str, Any]:
    """Read `dataset_info.json`, with the number of examples of each split under "counts"."""
    text = path.read_text()
    try:
        info = json.loads(text)
        info["counts"] = {
            split["name"]: sum(int(length) for length in split.get("shardLengths", []))
            for split in info["splits"]
        }
        if not all(isinstance(name, str) for name in info["counts"]):
            raise UserError("the name of a split is no text")
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete its folder and prepare "
            "the data set again"
        ) from error
    return info


def _describe(folder: "epath.Path", info: dict[str, Any]) -> Prepared:
    filenames = []
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        status = path.stat()
        filenames.append((path.name, int(status.length), float(status.mtime)))
    directory = os.fspath(folder)
    if "://" not in directory:
        directory = os.path.realpath(directory)
    return Prepared(directory, info["counts"], tuple(filenames))


class _Opened(NamedTuple):
    """A split that is open, its images encoded.

    Attributes:
        source: Gives examples by position, {"image": bytes, "label": int}.
        mode: Of `MODES`, that the images have.
        num_classes: Number of classes.
        class_names: Their names, str [num_classes], or none.
    """

    source: Any
    mode: str
    num_classes: int
    class_names: np.ndarray

    @property
    def about_classes(self) -> dict[str, np.ndarray]:
        return {"num_classes": np.array(self.num_classes), "class_names": self.class_names}


class _Encoded:
    """The images of a source without their labels, one at a time."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int) -> bytes:
        return self._source[position]["image"]


def _open(name: str, prepared: Prepared, split: str) -> _Opened:
    import tensorflow_datasets as tfds
    from etils import epath

    features_path = epath.Path(prepared.directory) / "features.json"
    try:
        require_own_classes(features_path.read_bytes(), os.fspath(features_path))
        builder = tfds.builder_from_directory(prepared.directory)
        features = dict(builder.info.features.items())
    except DataError:
        raise
    except Exception as error:
        raise _damaged(name, prepared, error) from error
    label: Any = features.get("label")
    image = features.get("image")
    if not getattr(label, "num_classes", None) or not isinstance(image, tfds.features.Image):
        raise DataError(
            f'dataset={name} needs the features "image" (an image) and "label" (a class); '
            f"{prepared.directory} has {features}"
        )
    if not 1 <= label.num_classes <= MOST_CLASSES:
        raise DataError(
            f"{features_path}: accepted are 1 to {MOST_CLASSES} classes, not "
            f"{shown(label.num_classes)}"
        )
    mode = MODES.get(image.shape[-1])
    if mode is None or image.np_dtype != np.uint8:
        raise DataError(
            f"dataset={name} has images of {image.np_dtype} with {image.shape[-1]} channels; "
            f"robustjax reads uint8 with {', '.join(map(str, MODES))}"
        )
    count = prepared.splits[split]
    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        if len(source) != count:
            raise UserError(f"the split {split!r} has {len(source)} examples instead of {count}")
    except Exception as error:
        raise _damaged(name, prepared, error) from error
    names = np.array([str(class_name) for class_name in label.names or []], dtype=np.str_)
    return _Opened(source, mode, label.num_classes, names)


def _examples(source: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Every example with its position, many read at a time."""
    for start in range(0, len(source), _CHUNK):
        positions = range(start, min(start + _CHUNK, len(source)))
        yield from zip(positions, source.__getitems__(list(positions)), strict=True)


def _decode(name: str, prepared: Prepared, split: str, image_size: int) -> dict[str, np.ndarray]:
    opened = _open(name, prepared, split)
    count = len(opened.source)
    images = None
    try:
        labels = np.empty(count, np.int32)
        for row, example in _examples(opened.source):
            pixels = decode_image(example["image"], opened.mode, image_size)
            if images is None:
                require_memory(name, count, pixels.shape)
                images = np.empty((count, *pixels.shape), np.uint8)
            if pixels.shape != images.shape[1:]:
                raise DataError(
                    f"dataset={name} has images of different sizes "
                    f"({list(images.shape[1:])} and {list(pixels.shape)}); a network needs one: "
                    "add image_size=PIXELS, to which they are cropped and resized"
                )
            images[row], labels[row] = pixels, example["label"]
        assert images is not None  # tfds opens no split without examples.
    except UserError:
        raise
    except Exception as error:
        raise _damaged(name, prepared, error) from error
    return {"images": images, "labels": labels, **opened.about_classes}


def _streamed(name: str, prepared: Prepared, split: str, image_size: int) -> Dataset:
    """A split whose images stay in their files; the labels are in the cache, or read now."""
    opened = _open(name, prepared, split)
    entry = "-".join([_word(name), _word(split), "labels", cache.digest(prepared.directory)[:12]])
    fingerprint = cache.digest(
        [_CACHE_VERSION, name, split, prepared.directory, list(prepared.filenames), "labels"]
    )
    arrays = cache.read(entry, fingerprint)
    try:
        if arrays is None:
            labels = [example["label"] for _, example in _examples(opened.source)]
            arrays = {"labels": np.array(labels, np.int32)}
            cache.write(entry, fingerprint, arrays)
        encoded = _Encoded(opened.source)

        def decode(image: bytes) -> np.ndarray:
            try:
                return decode_image(image, opened.mode, image_size)
            except Exception as error:
                raise _damaged(name, prepared, error) from error

        images: Any = StreamedImages(encoded, decode, decode(encoded[0]).shape, name=name)
    except UserError:
        raise
    except Exception as error:
        raise _damaged(name, prepared, error) from error
    class_names = tuple(map(str, opened.class_names))
    return Dataset(name, images, arrays["labels"], opened.num_classes, class_names)


def _word(text: str) -> str:
    """A text as a part of the name of a file."""
    return re.sub(r"\W", "_", text)


def _damaged(name: str, prepared: Prepared, error: Exception) -> DataError:
    # tfds, protobuf and array_record each raise errors of their own for a damaged file.
    return DataError(
        f"dataset={name}: {prepared.directory} is damaged or unreadable "
        f"({type(error).__name__}: {error}); delete that folder and prepare the data set again"
    )
