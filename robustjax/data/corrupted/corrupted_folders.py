"""Corrupted test images in the folders of ImageNet-C: files by corruption, severity and class."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from robustjax.arguments import require_choice, require_whole
from robustjax.data.corrupted.benchmark import SEVERITIES, in_order
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.image_files import is_grey, read_images, require_pillow, without_size_warnings
from robustjax.data.image_folder import alternating, class_folders, files_of_classes

LAYOUT = (
    "CORRUPTION/SEVERITY/CLASS/*.JPEG, as gaussian_noise/1 to gaussian_noise/5, or with one folder "
    "around CORRUPTION"
)


@dataclass(frozen=True)
class CorruptedFolders:
    """A folder of corrupted images, which are read when a severity of them is asked for.

    Attributes:
        folders: Of the corruptions, by name, in the order of `names`.
        classes: Names of the folders of the first corruption at severity 1, sorted; all others have
            the same.
        labels: See `CorruptedImages`.
        grey: Whether the images have one channel, else they have three.
    """

    folders: Mapping[str, str]
    classes: tuple[str, ...]
    labels: np.ndarray
    grey: bool

    @property
    def names(self) -> tuple[str, ...]:
        """See `CorruptedImages`."""
        return tuple(self.folders)

    def dataset(
        self, name: str, severity: int, *, examples: int = 0, image_size: int = 0
    ) -> Dataset:
        """See `CorruptedImages`; the first examples are of all classes alike."""
        require_choice("name", name, self.names)
        require_whole("severity", severity, 1, SEVERITIES)
        root = os.path.join(self.folders[name], str(severity))
        if not os.path.isdir(root):
            raise DataError(f"{root} is not there; accepted is {LAYOUT}")
        found = tuple(class_folders(root))
        if found != self.classes:
            other = sorted(set(found).symmetric_difference(self.classes))[0]
            raise DataError(
                f"{root} has not the classes of {self.names[0]}/1: {other!r} is in one of the two"
            )
        files, labels = files_of_classes(root, found)
        rows = alternating(labels)[: examples or len(files)]
        chosen = [files[row] for row in rows]
        with without_size_warnings():
            images = read_images(f"{name} {severity}", chosen, grey=self.grey, size=image_size)
        of_rows = np.array(labels, np.int32)[rows]
        return Dataset(f"{name} {severity}", images, of_rows, len(found), found)


def find_folders(directory: str) -> dict[str, str]:
    """The folders of corruptions in a folder, or in the folders within it, by name.

    Raises:
        DataError: If two have the same name.
    """
    found: dict[str, str] = {}
    for path in _folders_in(directory):
        # Within a corruption are severities, and within these a class may be called 1 as well.
        for folder in [path] if _has_severities(path) else _folders_in(path):
            if _has_severities(folder):
                name = os.path.basename(folder)
                if name in found:
                    raise DataError(f"{found[name]} and {folder} are both called {name!r}")
                found[name] = folder
    return found


def open_corrupted_folders(directory: str, folders: Mapping[str, str]) -> CorruptedFolders:
    """Look which classes the corruptions have, and whether an image of one has colours.

    Args:
        directory: The folder, for messages.
        folders: What `find_folders` has found in it, one or more.

    Raises:
        DataError: If a class has no image.
    """
    require_pillow(f"--corruptions={directory}")
    ordered = {name: folders[name] for name in in_order(folders)}
    first = os.path.join(next(iter(ordered.values())), "1")
    classes = class_folders(first)
    files, labels = files_of_classes(first, classes)
    order = alternating(labels)
    numbers = np.array(labels, np.int32)[order]
    grey = all(is_grey(files[row]) for row in order[: len(classes)])
    return CorruptedFolders(ordered, tuple(classes), numbers, grey)


def _has_severities(folder: str) -> bool:
    return os.path.isdir(os.path.join(folder, "1"))


def _folders_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror or error}") from error
