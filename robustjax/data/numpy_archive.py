"""A user's own arrays, from one .npz file."""

import numpy as np

from robustjax.arguments import did_you_mean, kind, shown
from robustjax.data.dataset import MOST_CLASSES, DataError, Dataset
from robustjax.npz import NpzError, NpzFile

LAYOUT = (
    'the keys "images" and "labels" for training and "test_images" and "test_labels" for testing '
    '(optionally "extra_images", "extra_labels", "num_classes" and "class_names")'
)

_BYTE_ERROR = 1e-3
"""Of 255, and the rounding of the dtype: so near to whole numbers are bytes divided by 255."""


def load_npz(path: str, split: str) -> Dataset:
    """Load one split of a file written by `numpy.savez` or `numpy.savez_compressed`.

    The file holds `images` and `labels` (split "train") and `test_images` and `test_labels` (split
    "test"); any other split "s" is `s_images` and `s_labels`. Images are uint8 [N, H, W, C] in
    0..255, or floating point in [0, 1], which stay as they are, float32, unless they are bytes that
    were divided by 255. Labels are integers [N]. `num_classes` (an integer) is otherwise one more
    than the largest label of the file, and `class_names` (an array of strings) is optional. Pickled
    arrays are never read, and every array that is read is compared with its checksum.

    Args:
        path: The file, which is the `data_dir` of the data set "npz".
        split: "train", "test", or any other name that the file has.

    Returns:
        The split, named "npz".

    Raises:
        DataError: If the file, a key, a shape, a dtype or a value is not as described.
    """
    try:
        archive = NpzFile(path)
    except FileNotFoundError as error:
        raise DataError(
            f"data_dir={path}: no such file. dataset=npz reads an .npz file with {LAYOUT}"
        ) from error
    except (OSError, NpzError) as error:
        raise DataError(
            f"data_dir={path} cannot be read: {error}. dataset=npz reads an .npz file with {LAYOUT}"
        ) from error
    prefix = "" if split == "train" else f"{split}_"
    with archive:
        for key in (f"{prefix}images", f"{prefix}labels"):
            if key not in archive:
                raise DataError(
                    f"data_dir={path} has no array {key!r} for the split {split!r}"
                    f"{did_you_mean(key, archive)}; it has {sorted(archive)}. dataset=npz reads "
                    f"{LAYOUT}"
                )
        images = _images(f"{path}: {prefix}images", _array(archive, path, f"{prefix}images"))
        label_keys = [key for key in archive if key == "labels" or key.endswith("_labels")]
        labels = {key: _labels(path, key, _array(archive, path, key)) for key in label_keys}
        num_classes = 1 + max(int(values.max()) for values in labels.values())
        if "num_classes" in archive:
            num_classes = _num_classes(path, _array(archive, path, "num_classes"))
        class_names: tuple[str, ...] = ()
        if "class_names" in archive:
            class_names = _class_names(path, _array(archive, path, "class_names"))
    try:
        return Dataset("npz", images, labels[f"{prefix}labels"], num_classes, class_names)
    except ValueError as error:
        raise DataError(f"data_dir={path}: {error}") from error


def _array(archive: NpzFile, path: str, key: str) -> np.ndarray:
    try:
        return archive[key]
    except NpzError as error:
        raise DataError(f"data_dir={path}: {error}") from error


def _images(where: str, images: np.ndarray) -> np.ndarray:
    accepted = "uint8 in 0..255, and floating point in [0, 1]"
    if images.ndim != 4 or 0 in images.shape:
        hint = "; add the channel axis: images[..., None]" if images.ndim == 3 else ""
        raise DataError(f"{where}={kind(images)}: accepted are [N, H, W, C]{hint}")
    if images.shape[1] <= 4 and images.shape[3] > 4:
        raise DataError(
            f"{where}={kind(images)}: accepted are [N, H, W, C], and this looks like channels "
            "first; reorder it: images.transpose(0, 2, 3, 1)"
        )
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise DataError(f"{where}={kind(images)}: accepted are {accepted}")
    if not (images.min() >= 0 and images.max() <= 1):
        raise DataError(
            f"{where}={images.dtype} in [{images.min():.6g}, {images.max():.6g}]: accepted are "
            f"{accepted}; divide by 255, or store uint8"
        )
    allowed = _BYTE_ERROR + 255 * float(np.finfo(images.dtype).eps) / 2
    images = images.astype(np.float32)
    scaled = images * 255
    whole = np.round(scaled)
    if np.all(np.abs(scaled - whole) <= allowed):
        return whole.astype(np.uint8)
    return images


def _labels(path: str, key: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 1 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {key}={kind(labels)}: accepted are integers [N], one class per image"
        )
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise DataError(
            f"{path}: {key}={labels.min()}..{labels.max()}: accepted are classes 0, 1, 2, ... "
            f"below {MOST_CLASSES}"
        )
    return labels.astype(np.int32)


def _class_names(path: str, names: np.ndarray) -> tuple[str, ...]:
    try:
        found = tuple(str(name) for name in names.ravel())
        "".join(found).encode()
    except (SystemError, ValueError) as error:  # Of what is no character.
        raise DataError(f"{path}: class_names holds what is no text ({error})") from error
    return found


def _num_classes(path: str, value: np.ndarray) -> int:
    if value.size != 1 or value.dtype.kind not in "iu":
        raise DataError(f"{path}: num_classes={shown(value)}: accepted is one integer")
    number = int(value.item())
    if not 1 <= number <= MOST_CLASSES:
        raise DataError(f"{path}: num_classes={number}: accepted are 1 to {MOST_CLASSES}")
    return number
