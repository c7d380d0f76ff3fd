"""Corrupted test images in the files of CIFAR-10-C: one array for each corruption, by severity."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustjax.arguments import kind, require_choice, require_whole
from robustjax.data.corrupted.benchmark import CORRUPTIONS, SEVERITIES, in_order
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.data.image_files import resize_images

_LABELS = "labels.npy"
LAYOUT = (
    f"the folder of CIFAR-10-C's files: {_LABELS}, integers [{SEVERITIES}·N], and for each "
    f"corruption, as {CORRUPTIONS[0]}.npy, uint8 [{SEVERITIES}·N, H, W, C], severity 1 first"
)


@dataclass(frozen=True)
class CorruptedArrays:
    """A folder of corrupted images; an array stays in its file until a severity of it is asked for.

    Attributes:
        directory: The folder.
        names: Of the corruptions that it has, in the order of `in_order`.
        labels: Class of each image of one severity, int32 [N].
    """

    directory: str
    names: tuple[str, ...]
    labels: np.ndarray

    def dataset(
        self, name: str, severity: int, *, examples: int = 0, image_size: int = 0
    ) -> Dataset:
        """See `CorruptedImages`; all images, and one class more than the largest label."""
        require_choice("name", name, self.names)
        require_whole("severity", severity, 1, SEVERITIES)
        path = os.path.join(self.directory, f"{name}.npy")
        images = _mapped(path)
        total = SEVERITIES * len(self.labels)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != total:
            raise DataError(
                f"{path} is {kind(images)}; accepted is uint8 [{total}, H, W, C], since {_LABELS} "
                f"has {len(self.labels)} images of each severity"
            )
        rows = slice((severity - 1) * len(self.labels), severity * len(self.labels))
        num_classes = int(self.labels.max()) + 1
        title, pixels = f"{name} {severity}", np.array(images[rows])
        if image_size:
            pixels = resize_images(pixels, image_size, title)
        return Dataset(title, pixels, self.labels, num_classes)


def open_corrupted_arrays(directory: str, files: Sequence[str]) -> CorruptedArrays:
    """Look which corruptions a folder has, and read the labels. No pickled array is ever read.

    Args:
        directory: The folder, see `LAYOUT`. The labels may also be those of one severity alone.
        files: In it.

    Raises:
        DataError: If the folder is not as described, or the labels of two severities differ.
    """
    found = {file.removesuffix(".npy") for file in files if file.endswith(".npy")}
    found.discard(_LABELS.removesuffix(".npy"))
    if _LABELS not in files or not found:
        missing = _LABELS if _LABELS not in files else "array of images"
        raise DataError(f"corruptions={directory} has no {missing}; accepted is {LAYOUT}")
    names = in_order(found)
    return CorruptedArrays(directory, names, _labels(directory, names))


def _labels(directory: str, names: Sequence[str]) -> np.ndarray:
    path = os.path.join(directory, _LABELS)
    labels = _mapped(path)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(f"{path} is {kind(labels)}; accepted are integers, one class per image")
    total = len(_mapped(os.path.join(directory, f"{names[0]}.npy")))
    of_each = np.array(labels)
    if len(labels) == total and total % SEVERITIES == 0:
        by_severity = of_each.reshape(SEVERITIES, -1)
        if np.any(by_severity != by_severity[0]):
            raise DataError(
                f"{path}: the labels of the severities differ; accepted are {SEVERITIES} times the "
                "same"
            )
        of_each = by_severity[0]
    elif SEVERITIES * len(labels) != total:
        raise DataError(
            f"{path} has {len(labels)} labels, and {names[0]}.npy {total} images; accepted is "
            f"{LAYOUT}"
        )
    if of_each.min() < 0 or of_each.max() >= MOST_CLASSES:
        found = f"{of_each.min()}..{of_each.max()}"
        raise DataError(f"{path}: labels in {found}; accepted are 0..{MOST_CLASSES - 1}")
    return of_each.astype(np.int32)


def _mapped(path: str) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read: {error}; accepted is an array as numpy.save writes it, no "
            "pickle"
        ) from error
    if not isinstance(found, np.ndarray) or found.ndim == 0:
        raise DataError(f"{path} holds no array of images or labels")
    return found
