"""What corrupted test images are to those who judge on them, whatever files they lie in."""

import os
from typing import Protocol

import numpy as np

from robustjax.data.corrupted import corrupted_arrays, corrupted_folders
from robustjax.data.corrupted.benchmark import CORRUPTIONS, SEVERITIES
from robustjax.data.dataset import DataError, Dataset

LAYOUT = f"{corrupted_arrays.LAYOUT}; or that of ImageNet-C: {corrupted_folders.LAYOUT}"

__all__ = ["CORRUPTIONS", "LAYOUT", "SEVERITIES", "CorruptedImages", "open_corrupted_images"]


class CorruptedImages(Protocol):
    """Corrupted images that stay on the disk until a severity of a corruption is asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the corruptions, in the order of `benchmark.in_order`."""

    @property
    def labels(self) -> np.ndarray:
        """Class of each image of the first corruption at severity 1, int32 [N]."""

    def dataset(
        self, name: str, severity: int, *, examples: int = 0, image_size: int = 0
    ) -> Dataset:
        """The images of one corruption at one severity.

        Args:
            name: One of `names`.
            severity: 1 to 5.
            examples: How many are needed, 0 for all; as many or more are read.
            image_size: If not 0, the images become squares of so many pixels.

        Raises:
            DataError: If files are damaged, or do not fit each other.
        """


def open_corrupted_images(directory: str) -> CorruptedImages:
    """Look which corruptions a folder has.

    Args:
        directory: The folder, see `LAYOUT`.

    Raises:
        DataError: If the folder is not as described.

    Source: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
        (Hendrycks and Dietterich, 2019).
    """
    directory = os.path.expanduser(directory)
    try:
        files = os.listdir(directory)
    except OSError as error:
        raise DataError(
            f"corruptions={directory} cannot be read: {error.strerror or error}; accepted is "
            f"{LAYOUT}"
        ) from error
    folders = corrupted_folders.find_folders(directory)
    if folders and not any(file.endswith(".npy") for file in files):
        return corrupted_folders.open_corrupted_folders(directory, folders)
    if not any(file.endswith(".npy") for file in files):
        raise DataError(f"corruptions={directory} has no labels.npy; accepted is {LAYOUT}")
    return corrupted_arrays.open_corrupted_arrays(directory, files)
