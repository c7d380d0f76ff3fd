"""Extra training images beside a labelled set: generated, pseudo-labelled, or without labels."""

import numpy as np

from robustjax.data.dataset import DataError

LAYOUT = (
    '"image" (uint8 [M, H, W, C]) and "label" (integers [M]), as the published generated sets have '
    'them, or "images" and "labels"; without labels, or with label -1, an example has none'
)


def load_extra(
    path: str, num_classes: int, image_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Read extra images from an `.npz` file. Pickled arrays are never read.

    Args:
        path: The file, `--extra_data`.
        num_classes: Number of classes K of the labelled set.
        image_shape: (H, W, C) of the labelled set.

    Returns:
        Images, uint8 [M, H, W, C], and labels, int32 [M], -1 where there is none.

    Raises:
        DataError: If the file, an array, a shape, a dtype or a label does not fit.
    """
    images, labels = _read(f"--extra_data={path}", path)
    flag = f"--extra_data={path}"
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
        path: The file, `--images`.

    Returns:
        Images, uint8 [M, H, W, C].

    Raises:
        DataError: If the file or its images are not as described.
    """
    images, _ = _read(f"--images={path}", path)
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise DataError(
            f"--images={path}: the images are {images.dtype} {list(images.shape)}; accepted is "
            "uint8 [M, H, W, C]"
        )
    return images


def _read(flag: str, path: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels (-1 where there are none) as they stand in the file."""
    try:
        archive = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{flag}: no such file; accepted is an .npz file with {LAYOUT}") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{flag} is not an .npz file that can be read without pickle ({error})"
        ) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{flag} holds one array; accepted is an .npz file with {LAYOUT}")
    with archive:
        image_key = next((key for key in ("image", "images") if key in archive), None)
        label_key = next((key for key in ("label", "labels") if key in archive), None)
        if image_key is None:
            raise DataError(f"{flag} has the arrays {sorted(archive)}; accepted are {LAYOUT}")
        try:
            images = archive[image_key]
            labels = np.full(len(images), -1) if label_key is None else archive[label_key]
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{flag} cannot be read without pickle: {error}") from error
    return images, labels
