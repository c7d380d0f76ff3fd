"""A folder of images, one folder per class within it, as a data set."""

import functools
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from robustjax.arguments import did_you_mean
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.data.image_files import (
    ENDINGS,
    is_grey,
    read_image,
    read_images,
    require_pillow,
    states_of,
    without_size_warnings,
)
from robustjax.data.prepared import cache
from robustjax.data.splits import stratified_positions
from robustjax.data.streamed_images import StreamedImages

LAYOUT = (
    "DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, or DIR/CLASS/*.png, of which every fifth is "
    f"for testing; the files may end in {' '.join(ENDINGS)}"
)

TEST_SHARE = 5
"""One in so many images of a folder without splits is for testing."""

_TEST = ("test", "val", "validation")
"""Folders that may hold the images for testing; the first of these that is there."""

_OF_CIFAR = ("cifar-10-batches-py", "cifar-100-python", "batches.meta", "data_batch_1")
# Raise this when the arrays that come out for the same files change.
_CACHE_VERSION = 1


def load_image_folder(
    directory: str, split: str, image_size: int = 0, *, stream: bool = False
) -> Dataset:
    """Load one split of a folder that has a folder of images for each class.

    Where `directory` has a folder train, test, val or validation, a split S is `directory`/S, and
    what is called val or validation is "test" if nothing else is. Otherwise the folders in
    `directory` are the classes, and of each class every fifth image, evenly spaced in the order of
    the names, is for testing (`stratified_positions`); the rest is for training.

    Classes are the names of the folders, those of the training split where there is one, sorted by
    code point; images come in the order of their paths within the class, whatever the system lists
    first, and the classes alternate (`alternating`), so that the first N images are of all of them.
    Files may lie deeper; names that begin with a full stop and files with other endings than
    those of images are passed over. The set has one channel if no training image has colours, else
    three; `read_image` says what becomes of each kind of file.

    What comes out is kept in the cache until a name, a size or a time of change is another.

    Args:
        directory: The folder, which is the `data_dir` of the data set "folder".
        split: "train", "test", or the name of another folder beside those.
        image_size: If not 0, images become squares of so many pixels; if 0, all must have one size.
        stream: Whether an image stays in its file until a batch has it (`StreamedImages`).

    Returns:
        The split, named "folder", images uint8 [N, H, W, 1 or 3].

    Raises:
        DataError: If the folder is not as described; if a class has no image; if a file cannot be
            read, or has another size than the others.
    """
    require_pillow("folder")
    directory = os.path.expanduser(directory)
    if not os.path.isdir(directory):
        found = "is no folder" if os.path.exists(directory) else "no such folder"
        raise DataError(f"data_dir={directory}: {found}. dataset=folder reads {LAYOUT}")
    _refuse_cifar(directory)
    classes, files, labels, for_channels = _chosen_files(directory, split)
    order = alternating(labels)
    files, labels = [files[row] for row in order], [labels[row] for row in order]
    numbers, names = np.array(labels, np.int32), tuple(classes)
    if stream:
        return Dataset(
            "folder", _streamed(files, for_channels, image_size), numbers, len(classes), names
        )
    entry = f"folder-{split}-{image_size}-{cache.digest(os.path.realpath(directory))[:12]}"
    fingerprint = cache.digest(
        [_CACHE_VERSION, image_size, classes, labels, states_of(files), states_of(for_channels)]
    )
    arrays = cache.read(entry, fingerprint)
    if arrays is None:
        with without_size_warnings():
            grey = all(map(is_grey, for_channels))
            images = read_images("folder", files, grey=grey, size=image_size)
            arrays = {"images": images}
        cache.write(entry, fingerprint, arrays)
    return Dataset("folder", arrays["images"], numbers, len(classes), names)


def alternating(labels: Sequence[int]) -> np.ndarray:
    """An order of images in which every class is spread evenly over the whole.

    The j-th of the n images of a class stands at (j + 1/2) / n of the way, ties to the lower class.

    Args:
        labels: Classes [N], in the order in which the images of a class are to stay.

    Returns:
        Rows, int64 [N].
    """
    classes = np.asarray(labels)
    by_class = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    place = np.empty(len(classes))
    place[by_class] = np.arange(len(classes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.lexsort((classes, (place + 0.5) / counts[classes]))


def _streamed(files: Sequence[str], for_channels: Sequence[str], size: int) -> Any:
    with without_size_warnings():
        grey = all(map(is_grey, for_channels))
        read = functools.partial(read_image, grey=grey, size=size)
        return StreamedImages(files, read, read(files[0]).shape, name="folder")


def _chosen_files(directory: str, split: str) -> tuple[list[str], list[str], list[int], list[str]]:
    """The classes; the files of a split and their labels; those that say how many channels."""
    folders = class_folders(directory)
    if not any(name in folders for name in ("train", *_TEST)):
        return _divided(directory, folders, split)
    place = split
    if split == "test":
        place = next((name for name in _TEST if name in folders), split)
    if place not in folders:
        raise DataError(
            f"data_dir={directory} has no folder {split!r}, but {_few(folders)}"
            f"{did_you_mean(split, folders)}. dataset=folder reads {LAYOUT}"
        )
    root = os.path.join(directory, place)
    train = os.path.join(directory, "train" if "train" in folders else place)
    found, classes = class_folders(root), class_folders(train)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(
            f"{root} has the folder {unknown[0]!r}, which is no class of {train}"
            f"{did_you_mean(unknown[0], classes)}; accepted are {_few(classes)}"
        )
    for_channels, train_labels = files_of_classes(train, classes)
    if root == train:
        return classes, for_channels, train_labels, for_channels
    files, labels = files_of_classes(root, found)
    return classes, files, [classes.index(found[label]) for label in labels], for_channels


def _divided(
    directory: str, classes: list[str], split: str
) -> tuple[list[str], list[str], list[int], list[str]]:
    """As `_chosen_files` of a folder that has classes in it and no splits."""
    if split not in ("train", "test"):
        raise DataError(
            f"data_dir={directory} has a folder for each class and none for {split!r}; it is "
            f'divided into "train" and "test"{did_you_mean(split, ("train", "test"))}'
        )
    files, labels = files_of_classes(directory, classes)
    is_test = np.zeros(len(files), bool)
    is_test[stratified_positions(np.array(labels), max(1, len(files) // TEST_SHARE))] = True
    rows = np.flatnonzero(is_test if split == "test" else ~is_test)
    for_channels = [files[row] for row in np.flatnonzero(~is_test)]
    return classes, [files[row] for row in rows], [labels[row] for row in rows], for_channels


def class_folders(directory: str) -> list[str]:
    """The names of the folders in one, which are its classes or its splits, sorted; one or more.

    Raises:
        DataError: If there is none, or the folder cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            found = sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and _is_folder(entry)
            )
    except OSError as error:
        raise _unreadable(directory, error) from error
    if not found:
        raise DataError(
            f"{directory} has no folder in it, one for each class. dataset=folder reads {LAYOUT}"
        )
    if len(found) > MOST_CLASSES:
        raise DataError(
            f"{directory} has {len(found)} folders; accepted are at most {MOST_CLASSES} classes"
        )
    try:
        "".join(found).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{directory}: the name of a class is no text ({error})") from error
    return found


def files_of_classes(root: str, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """The image files of some classes, by name, and the number of the class of each.

    Raises:
        DataError: If a class has no image, or cannot be read.
    """
    files, labels = [], []
    for number, name in enumerate(classes):
        folder = os.path.join(root, name)
        found = sorted(_image_files(folder))
        if not found:
            raise DataError(
                f"{folder} has no image; accepted are folders with files that end in "
                f"{' '.join(ENDINGS)}; fill it, or remove it"
            )
        files += found
        labels += [number] * len(found)
    return files, labels


def _image_files(folder: str) -> Iterable[str]:
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
        for entry in entries:
            if _is_folder(entry):
                if entry.is_symlink():
                    raise DataError(
                        f"{entry.path} is a link to a folder, and may lead in a circle; accepted "
                        "are links to files, and a class that is a link itself"
                    )
                yield from _image_files(entry.path)
            elif entry.name.lower().endswith(ENDINGS):
                if not entry.is_file():
                    raise DataError(f"{entry.path} is no file, or a link that leads nowhere")
                yield entry.path
    except OSError as error:
        raise _unreadable(folder, error) from error


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:  # Of a link to itself.
        raise _unreadable(entry.path, error) from error


def _refuse_cifar(directory: str) -> None:
    """Refuses CIFAR as torchvision keeps it, which is another data set of `data.load`."""
    names = set(os.listdir(directory))
    found = [name for name in _OF_CIFAR if name in names]
    if found:
        raise DataError(
            f"data_dir={directory} has {found[0]!r}, CIFAR as torchvision keeps it, and no "
            "folder of images; use dataset=cifar10 or cifar100 with the same data_dir"
        )


def _unreadable(path: str, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read: {error.strerror or error}")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
