"""Data sets by name: the one door through which training and evaluation get their images."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from robustjax import installed, own_code
from robustjax.arguments import did_you_mean, require_free_name, require_whole, shown
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.digits import load_digits
from robustjax.data.hugging_face import LAYOUT as FILES
from robustjax.data.hugging_face import load_hugging_face
from robustjax.data.image_files import resize_images
from robustjax.data.image_folder import LAYOUT, load_image_folder
from robustjax.data.numpy_archive import load_npz
from robustjax.data.prepared import reader as prepared
from robustjax.data.prepared.originals import ORIGINALS
from robustjax.data.prepared.preparation import prepare
from robustjax.data.torchvision import NAMES, find_torchvision, load_torchvision

_OWN = ("digits", "npz", "folder", "huggingface")
_NAMED = tuple(dict.fromkeys((*_OWN, *ORIGINALS, *NAMES)))

NAMED_BY_PATH = ("npz", "folder", "huggingface")
"""Data sets that are whatever lies in their `data_dir`."""

LARGEST_IMAGE = 8192
"""Pixels on a side to which images are resized; no network takes more."""

# Of tfds's sets.
_TEST_WITHOUT_LABELS = ("imagenet2012",)

# Without a network, `load` has to say so within five seconds.
_PATIENCE_SECONDS = 3.0


_REGISTERED: dict[str, Callable[..., Dataset]] = {}


def register(name: str, load: Callable[..., Dataset] | None = None) -> Any:
    """Adds a data set to those that `load` knows, and so every command.

    Args:
        name: That it gets.
        load: Called as `load(split, data_dir)` with "train" or "test" and the folder or file that
            was named, or None; gives a `Dataset`. Not given, a decorator of such a function is
            returned.

    Returns:
        `load`.

    Raises:
        ValueError: If the name is taken.
    """
    require_free_name("data set", name, (*_OWN, *ORIGINALS, *_REGISTERED))
    if load is None:
        return functools.partial(register, name)
    _REGISTERED[name] = load
    return load


def give(dataset: Dataset | Mapping[str, Dataset] | Callable[..., Dataset]) -> str:
    """Makes images known under a name that no command line has, until others have that name.

    Args:
        dataset: Those of the split "train"; or a dictionary of splits; or what loads a split, as
            for `register`.

    Returns:
        The name, for `load`.

    Raises:
        DataError: If it is none of these.
    """
    splits = {"train": dataset} if isinstance(dataset, Dataset) else dataset
    if isinstance(splits, Mapping):
        first = next(iter(splits.values()), None)
        name = own_code.name_of_given(first)
        _REGISTERED[name] = functools.partial(_given_split, name, dict(splits))
        return name
    if not callable(dataset):
        raise DataError(
            f"dataset={shown(dataset)}: accepted are a data.Dataset, a dictionary of them by "
            "split, and a function load(split, data_dir)"
        )
    name = own_code.name_of_given(dataset)
    _REGISTERED[name] = dataset
    return name


def _given_split(
    name: str, splits: Mapping[str, Dataset], split: str, data_dir: str | None
) -> Dataset:
    if split not in splits:
        raise DataError(
            f"dataset={name}: no split {split!r} was given, but {', '.join(splits)}; give a "
            'dictionary, as {"train": ..., "test": ...}'
        )
    return splits[split]


def default_data_dir() -> str:
    """$TFDS_DATA_DIR, else ~/tensorflow_datasets, as tfds has it."""
    return os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")


def load(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_size: int = 0,
    stream: bool = False,
    allow_prepare: bool = True,
) -> Dataset:
    """Load a data set into memory.

    | name | source |
    |---|---|
    | digits | embedded in scikit-learn, 8x8, splits of robustjax's own |
    | mnist, cifar10, cifar100, svhn | prepared in `data_dir`, else downloaded and prepared there |
    | fashion_mnist, kmnist, and these four | as torchvision has them in `data_dir`, its `root` |
    | npz | a file of the user's own, `data_dir` (see `load_npz` for its keys) |
    | folder | a folder of images per class in `data_dir` (see `load_image_folder` for its layout) |
    | huggingface | parquet or arrow files in `data_dir` (see `load_hugging_face`) |
    | any other | a tfds name, prepared in `data_dir` as ArrayRecord files, with image and label |

    Prepared sets are decoded once and then come from the cache (`cache.cache_directory`). A
    `data_dir` that begins with gs:// is passed on as it is (see `prepared`).

    Args:
        name: As in the table; "svhn" is tfds's svhn_cropped.
        split: "train", "test", for SVHN also "extra", or several joined by "+": "train+extra". Of a
            tfds set that has no "test", or none with labels, "test" is "validation".
        data_dir: Folder of the prepared sets, by default `default_data_dir()`; for "npz" the file,
            for "folder" and "huggingface" that folder.
        image_size: If not 0, the middle square of each image is resized to so many pixels on a side
            (see `image_files.read_image`); sets whose images differ in size need it.
        stream: Whether images are read and decoded when a batch has them (`StreamedImages`); of
            folders and tfds sets.
        allow_prepare: Whether to download and prepare a set that is not there, where a network is.

    Returns:
        The images and labels of the split.

    Raises:
        DataError: If the data set cannot be had; the message says what to do.
    """
    for argument, value in (("name", name), ("split", split)):
        if not isinstance(value, str):
            raise DataError(f"{argument}={shown(value)}: accepted are texts")
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise DataError(f"data_dir={shown(data_dir)}: accepted is a path, or None")
    require_whole("image_size", image_size, 0, LARGEST_IMAGE)
    if stream and "+" in split:
        raise DataError(f"split={split}: stream=True reads one split at a time")
    parts = [
        _load_part(name, part, data_dir, image_size, stream, allow_prepare)
        for part in split.split("+")
    ]
    return parts[0] if len(parts) == 1 else _join(parts)


def require_known(name: str, data_dir: str | None) -> None:
    """Refuses a name that `load` knows nothing of; the images need not be there.

    Raises:
        DataError: If it is no data set's, nor that of one that lies prepared in `data_dir`.
    """
    directory = os.fspath(data_dir) if data_dir else default_data_dir()
    if name not in (*_NAMED, *_REGISTERED) and prepared.find(name, directory) is None:
        raise _unknown(name, directory)


def _load_part(
    name: str,
    split: str,
    data_dir: str | None,
    image_size: int,
    stream: bool,
    allow_prepare: bool,
) -> Dataset:
    if name in ("digits", "npz", "huggingface", *_REGISTERED):
        _refuse_stream(name, stream)
    if name in _REGISTERED:
        return _resized(_registered(name, split, data_dir), image_size)
    own_code.refuse_given("dataset", name)
    if name == "digits":
        return _resized(load_digits(split), image_size)
    if name == "npz":
        if not data_dir:
            raise DataError("dataset=npz reads your own arrays: add data_dir=FILE.npz")
        return _resized(load_npz(os.path.expanduser(data_dir), split), image_size)
    if name == "folder":
        if not data_dir:
            raise DataError(f"dataset=folder reads your own images: add data_dir=DIR. {LAYOUT}")
        return load_image_folder(os.fspath(data_dir), split, image_size, stream=stream)
    if name == "huggingface":
        if not data_dir:
            raise DataError(f"dataset=huggingface reads files of yours: add data_dir=DIR, {FILES}")
        return load_hugging_face(os.fspath(data_dir), split, image_size)
    directory = os.fspath(data_dir) if data_dir else default_data_dir()
    tfds_name = ORIGINALS[name].tfds_name if name in ORIGINALS else name
    found = prepared.find(tfds_name, directory)
    of_torchvision = None if found else find_torchvision(name, directory)
    if of_torchvision is not None:
        _refuse_stream(name, stream)
        return _resized(load_torchvision(name, of_torchvision, split), image_size)
    prepared.require_packages(name)
    if found is None:
        _prepare_or_explain(name, directory, allow_prepare)
        found = prepared.find(tfds_name, directory)
        assert found is not None  # It has been made.
    labelled = split in found.splits and tfds_name not in _TEST_WITHOUT_LABELS
    if split == "test" and not labelled and "validation" in found.splits:
        split = "validation"
    return prepared.read(name, found, split, image_size, stream=stream)


def _refuse_stream(name: str, stream: bool) -> None:
    if stream:
        raise DataError(
            f"dataset={name}: stream=True reads image files of dataset=folder, and tfds's sets"
        )


def _resized(dataset: Dataset, image_size: int) -> Dataset:
    if not image_size:
        return dataset
    images = resize_images(dataset.images, image_size, f"dataset={dataset.name}")
    return dataclasses.replace(dataset, images=images)


def _registered(name: str, split: str, data_dir: str | None) -> Dataset:
    found = _REGISTERED[name](split, data_dir)
    if not isinstance(found, Dataset):
        raise DataError(
            f"dataset={name}: what is registered gives a {type(found).__name__} for "
            f"{split!r}; it must give a data.Dataset"
        )
    return found


def _prepare_or_explain(name: str, directory: str, allow_prepare: bool) -> None:
    place = f"data_dir={directory}: the data set {name!r} is not prepared there"
    embedded = "or train on the embedded set: dataset=digits"
    if name not in ORIGINALS:
        raise _unknown(name, directory)
    reason = ""
    if allow_prepare and "://" not in directory:
        try:
            prepare(name, directory, patience=_PATIENCE_SECONDS)
            return
        except DataError as error:
            reason = f", and preparing it now failed ({error})"
    raise DataError(
        f"{place}{reason}. On a machine with a network, run "
        f"`{installed.written('prepare_data')} --dataset={name} --data_dir={directory}`, {embedded}"
    )


def _unknown(name: str, directory: str) -> DataError:
    if name in NAMES:
        return DataError(
            f"data_dir={directory}: the data set {name!r} is not there; it is read where "
            "torchvision has downloaded it"
        )
    return DataError(
        f"dataset={shown(name)}: accepted are {', '.join(_NAMED)}, and what lies prepared in "
        f"data_dir={directory} as NAME/VERSION with array_record files{did_you_mean(name, _NAMED)}"
    )


def _join(parts: Sequence[Dataset]) -> Dataset:
    return dataclasses.replace(
        parts[0],
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
    )
