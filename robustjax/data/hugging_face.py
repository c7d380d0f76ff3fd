"""Data sets of Hugging Face that lie on the disk: parquet files, or what `save_to_disk` wrote."""

import glob
import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustjax import installed
from robustjax.arguments import did_you_mean
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.data.image_files import (
    EncodedImage,
    is_grey,
    read_images,
    require_pillow,
    states_of,
    without_size_warnings,
)
from robustjax.data.prepared import cache

LAYOUT = (
    "SPLIT-*.parquet in DIR or in one folder within it, as the hub has them, or DIR/SPLIT/*.arrow, "
    "as save_to_disk writes them, with an image (its bytes) and a label (an integer) a row"
)

_IMAGE, _LABEL = ("image", "img"), ("label", "labels", "fine_label")
_TEST = ("test", "validation", "val", "valid")
# Raise this when the arrays that come out for the same files change.
_CACHE_VERSION = 1


def load_hugging_face(directory: str, split: str, image_size: int = 0) -> Dataset:
    """Load one split of a data set in the files of Hugging Face's `datasets`, with pyarrow alone.

    Nothing of the data set's own code is run. The columns are "image" or "img" (a struct with
    "bytes") and "label", "labels" or "fine_label" (integers). Names of the classes come from the
    features that the files hold; without them there are as many classes as the largest label of all
    splits says. Images are read as `image_files.read_image` says, with one channel if no training
    image has colours. What comes out is kept in the cache until a file changes.

    Args:
        directory: The folder, which is the `data_dir` of the data set "huggingface".
        split: "train", "test" or any other that the folder has; "test" may be called "validation".
        image_size: If not 0, images become squares of so many pixels; if 0, all must have one size.

    Returns:
        The split, named "huggingface", images uint8 [N, H, W, 1 or 3].

    Raises:
        DataError: If pyarrow is missing, or a file, a column or a label is not as described.
    """
    require_pillow("huggingface")
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(
            "dataset=huggingface is read with pyarrow, which is not installed: "
            f"{installed.extra('stream')}"
        )
    directory = os.path.expanduser(directory)
    splits = _splits(directory)
    chosen = split
    if split == "test":
        chosen = next((name for name in _TEST if name in splits), split)
    if chosen not in splits:
        raise DataError(
            f"data_dir={directory} has no split {split!r}, but {', '.join(splits) or 'none'}"
            f"{did_you_mean(split, splits)}. dataset=huggingface reads {LAYOUT}"
        )
    words = f"{chosen}-{image_size}-{cache.digest(os.path.realpath(directory))[:12]}"
    fingerprint = cache.digest(
        [_CACHE_VERSION, image_size, {name: states_of(files) for name, files in splits.items()}]
    )
    arrays = cache.read(f"huggingface-{words}", fingerprint)
    if arrays is None:
        arrays = _decoded(splits, chosen, image_size)
        cache.write(f"huggingface-{words}", fingerprint, arrays)
    return Dataset(
        "huggingface",
        arrays["images"],
        arrays["labels"],
        int(arrays["num_classes"]),
        tuple(map(str, arrays["class_names"])),
    )


def _splits(directory: str) -> dict[str, list[str]]:
    """The files of each split."""
    if not os.path.isdir(directory):
        raise DataError(f"data_dir={directory}: no such folder. dataset=huggingface reads {LAYOUT}")
    root = glob.escape(directory)
    parquet = [*glob.glob(f"{root}/*.parquet"), *glob.glob(f"{root}/*/*.parquet")]
    folders = sorted({os.path.dirname(path) for path in parquet})
    if len(folders) > 1:
        raise DataError(
            f"data_dir={directory} has parquet files in {len(folders)} folders; name one of them: "
            f"{', '.join(folders[:5])}"
        )
    found: dict[str, list[str]] = {}
    for path in sorted(parquet):
        name = os.path.basename(path).removesuffix(".parquet").split("-")[0]
        found.setdefault(name, []).append(path)
    for path in sorted(glob.glob(f"{root}/*/data-*.arrow")):
        found.setdefault(os.path.basename(os.path.dirname(path)), []).append(path)
    return found


def _decoded(
    splits: Mapping[str, Sequence[str]], split: str, image_size: int
) -> dict[str, np.ndarray]:
    """What is kept of a split."""
    labels = {name: _labels(files) for name, files in splits.items()}
    names = _class_names(splits[split][0])
    highest = max(int(of_split.max()) for of_split in labels.values())
    files = _images(splits[split])
    with without_size_warnings():
        for_channels = files if split == "train" else _images(splits.get("train", splits[split]))
        grey = all(map(is_grey, for_channels))
        images = read_images("huggingface", files, grey=grey, size=image_size)
    return {
        "images": images,
        "labels": labels[split],
        "num_classes": np.array(len(names) or highest + 1),
        "class_names": np.array(names, dtype=np.str_),
    }


def _labels(files: Sequence[str]) -> np.ndarray:
    """int32 [N], the classes of all rows of some files."""
    parts = []
    for path in files:
        column = _column(path, _LABEL)
        values = column.to_numpy(zero_copy_only=False)
        if column.null_count or values.dtype.kind not in "iu":
            raise DataError(
                f"{path}: the labels are {column.type}; accepted are integers, no nulls"
            )
        parts.append(values)
    labels = np.concatenate(parts)
    if not len(labels):
        raise DataError(f"{files[0]} has no row; accepted are files with an image a row")
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise DataError(
            f"{files[0]}: the labels are {labels.min()}..{labels.max()}; accepted are 0, 1, 2, ... "
            f"below {MOST_CLASSES}, and a split without labels (-1) cannot be used"
        )
    return labels.astype(np.int32)


def _images(files: Sequence[str]) -> list[EncodedImage]:
    found = []
    for path in files:
        for row, value in enumerate(_column(path, _IMAGE).to_pylist()):
            content = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(content, bytes):
                raise DataError(
                    f"{path}: row {row} holds no bytes of an image; accepted are images that lie "
                    "in the file itself"
                )
            found.append(EncodedImage(f"{path}: row {row}", content))
    return found


def _column(path: str, names: Sequence[str]) -> Any:
    """The first of these columns that a file has, in one piece."""
    table = _table(path, names)
    if not table.num_columns:
        raise DataError(f"{path} has no column {' or '.join(names)}")
    column = table.column(0).combine_chunks()
    return column.storage if hasattr(column, "storage") else column


def _table(path: str, names: Sequence[str] | None) -> Any:
    """A file's table, of the first of these columns that it has, or of none."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        if path.endswith(".parquet"):
            present = parquet.read_schema(path).names
            wanted = [name for name in names or () if name in present][:1]
            return parquet.read_table(path, columns=wanted, use_threads=False)
        with pyarrow.memory_map(path) as file:
            table = ipc.open_stream(file).read_all()
        return table.select([name for name in names or () if name in table.column_names][:1])
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _class_names(path: str) -> tuple[str, ...]:
    """What the features in a file's metadata call the classes; nothing if they do not say."""
    metadata = _table(path, None).schema.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        feature = next(features[name] for name in _LABEL if name in features)
        return tuple(str(name) for name in feature["names"])
    except (KeyError, StopIteration, TypeError, ValueError):
        return ()
