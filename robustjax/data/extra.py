"""Extra training images beside a labelled set: generated, pseudo-labelled, or without labels."""

import math
import os

import numpy as np

from robustjax.data.dataset import DataError
from robustjax.data.image_rows import mapped
from robustjax.npz import NpzError, NpzFile

READ_WHOLE = 4 * 2**30
"""Bytes of images up to which a file is read at once, and compared with its checksum."""

LAYOUT = (
    '"image" (uint8 [M, H, W, C]) and "label" (integers [M]), as the published generated sets have '
    'them, or "images" and "labels"; without labels, or with label -1, an example has none'
)


def load_extra(
    path: str,
    num_classes: int,
    image_shape: tuple[int, ...],
    read_whole: int = READ_WHOLE,
) -> tuple[np.ndarray, np.ndarray]:
    """Read extra images from an `.npz` file. Pickled arrays are never read.

    More images than `read_whole` stay in the file, unless it is compressed: a row is then fetched
    when a batch has it, so that a process holds no more of them than the machine has memory to
    spare.

    Args:
        path: The file, `extra_data`.
        num_classes: Number of classes K of the labelled set.
        image_shape: (H, W, C) of the labelled set.
        read_whole: Bytes of images.

    Returns:
        Images, uint8 [M, H, W, C], which may be read-only, and labels, int32 [M], -1 where there is
        none.

    Raises:
        DataError: If the file, an array, a shape, a dtype or a label does not fit.
    """
    flag = f"extra_data={path}"
    with _open(flag, path) as archive:
        images = _array(flag, archive, "image", "images", read_whole=read_whole)
        labels = _array(flag, archive, "label", "labels")
    if images is None:
        raise _without_images(flag, archive)
    if labels is None:
        labels = np.full(images.shape[:1], -1, np.int32)
    if images.dtype != np.uint8 or images.shape[1:] != image_shape or not len(images):
        raise DataError(
            f"{flag}: the images are {images.dtype} {list(images.shape)}; accepted is uint8 "
            f"{['M', *image_shape]}, as the labelled images are".replace("'", "")
        )
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{flag}: the labels are {labels.dtype} {list(labels.shape)}; accepted are integers "
            f"[{len(images)}], one per image"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < -1 or highest >= num_classes:
        raise DataError(
            f"{flag}: labels lie in {lowest}..{highest}; accepted are 0..{num_classes - 1}, and -1 "
            "for none"
        )
    return images, labels.astype(np.int32)


def load_images(path: str) -> np.ndarray:
    """Read the images of such a file, whatever labels it has.

    Args:
        path: The file, `images`.

    Returns:
        Images, uint8 [M, H, W, C].

    Raises:
        DataError: If the file or its images are not as described.
    """
    flag = f"images={path}"
    with _open(flag, path) as archive:
        images = _array(flag, archive, "image", "images")
    if images is None:
        raise _without_images(flag, archive)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise DataError(
            f"{flag}: the images are {images.dtype} {list(images.shape)}; accepted is "
            "uint8 [M, H, W, C]"
        )
    return images


def _open(flag: str, path: str) -> NpzFile:
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"{flag}: accepted is the path of an .npz file with {LAYOUT}")
    try:
        return NpzFile(path)
    except FileNotFoundError as error:
        raise DataError(f"{flag}: no such file; accepted is an .npz file with {LAYOUT}") from error
    except (OSError, ValueError) as error:  # NpzError, or a path that no system takes.
        raise DataError(
            f"{flag} cannot be read: {error}; accepted is an .npz file with {LAYOUT}"
        ) from error


def _array(
    flag: str, archive: NpzFile, *names: str, read_whole: float = math.inf
) -> np.ndarray | None:
    """The array of the first of these names that the file has; a larger one may stay there."""
    name = next((name for name in names if name in archive), None)
    if name is None:
        return None
    try:
        found = mapped(archive, name, read_whole)
        return archive[name] if found is None else found
    except (OSError, NpzError) as error:
        raise DataError(f"{flag}: {error}") from error


def _without_images(flag: str, archive: NpzFile) -> DataError:
    return DataError(f"{flag} has the arrays {sorted(archive)}; accepted are {LAYOUT}")
