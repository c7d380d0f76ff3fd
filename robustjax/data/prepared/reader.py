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
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from robustjax import installed
from robustjax.arguments import did_you_mean, shown
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.data.prepared import cache
from robustjax.data.prepared.feature_classes import require_own_classes
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
# Pillow's name for the pixels of an image with so many channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
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


def read(name: str, prepared: Prepared, split: str) -> Dataset:
    """Decode one split, or take it from the cache.

    The cache is asked with the path, sizes and times of change of all files, so a data set that was
    prepared anew is decoded anew.

    Args:
        name: Name for the result.
        prepared: Where the data set lies.
        split: One of its splits.

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
    entry = "-".join(
        [re.sub(r"\W", "_", name), re.sub(r"\W", "_", split), cache.digest(prepared.directory)[:12]]
    )
    fingerprint = cache.digest(
        [_CACHE_VERSION, name, split, prepared.directory, list(prepared.filenames)]
    )
    arrays = cache.read(entry, fingerprint)
    if arrays is None:
        arrays = _decode(name, prepared, split)
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


def _decode(name: str, prepared: Prepared, split: str) -> dict[str, np.ndarray]:
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
    mode = _MODES.get(image.shape[-1])
    if mode is None or image.np_dtype != np.uint8:
        raise DataError(
            f"dataset={name} has images of {image.np_dtype} with {image.shape[-1]} channels; "
            f"robustjax reads uint8 with {', '.join(map(str, _MODES))}"
        )
    count = prepared.splits[split]
    images = None
    try:
        source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
        if len(source) != count:
            raise UserError(f"the split {split!r} has {len(source)} examples instead of {count}")
        labels = np.empty(count, np.int32)
        for start in range(0, count, _CHUNK):
            examples = source.__getitems__(list(range(start, min(start + _CHUNK, count))))
            for row, example in enumerate(examples, start):
                pixels = _decode_image(example["image"], mode)
                if images is None:
                    images = np.empty((count, *pixels.shape), np.uint8)
                if pixels.shape != images.shape[1:]:
                    raise DataError(
                        f"dataset={name} has images of different sizes "
                        f"({list(images.shape[1:])} and {list(pixels.shape)}); robustjax needs one"
                    )
                images[row], labels[row] = pixels, example["label"]
        assert images is not None  # tfds opens no split without examples.
    except DataError:
        raise
    except Exception as error:
        raise _damaged(name, prepared, error) from error
    return {
        "images": images,
        "labels": labels,
        "num_classes": np.array(label.num_classes),
        "class_names": np.array(
            [str(class_name) for class_name in label.names or []], dtype=np.str_
        ),
    }


def _decode_image(encoded: bytes, mode: str) -> np.ndarray:
    """Decode one PNG or JPEG to uint8 [H, W, C], with Pillow as tfds does without OpenCV."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _damaged(name: str, prepared: Prepared, error: Exception) -> DataError:
    # tfds, protobuf and array_record each raise errors of their own for a damaged file.
    return DataError(
        f"dataset={name}: {prepared.directory} is damaged or unreadable "
        f"({type(error).__name__}: {error}); delete that folder and prepare the data set again"
    )
