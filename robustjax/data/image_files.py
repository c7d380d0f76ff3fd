"""One image file as an array: what Pillow reads, grey or in colour, of its own size or another."""

import contextlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from robustjax.arguments import kind
from robustjax.data.dataset import DataError

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Of the names of image files, in small or capital letters."""

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for the pixels of an image with so many channels."""

# Of the same formats: others have readers that start programs, or are of no photograph.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


def require_pillow(dataset: str) -> None:
    """Refuses a data set of image files where nothing is installed that reads them.

    Args:
        dataset: The data set that was asked for, for the message.

    Raises:
        DataError: If Pillow cannot be imported.
    """
    if importlib.util.find_spec("PIL") is None:
        raise DataError(
            f"dataset={dataset} is read with Pillow, which is not installed: pip install pillow"
        )


def read_image(path: str, *, grey: bool, size: int = 0) -> np.ndarray:
    """Read an image file.

    | what the file has | what comes of it |
    |---|---|
    | colour, and `grey` | its luma, 0.299 R + 0.587 G + 0.114 B |
    | grey, and not `grey` | three equal channels |
    | a palette, CMYK, YCbCr | its colours |
    | transparency | the image as it lies on black |
    | 16 bits of grey | round(v / 257) |
    | a note how the camera was held (EXIF) | the image as it is to be seen |
    | several frames | the first |

    Args:
        path: The file.
        grey: Whether the result has one channel, else it has three.
        size: If not 0, the largest square in the middle is cut out and resized to so many pixels
            (bilinear, over all pixels that fall on one); an image of that size stays as it is.

    Returns:
        uint8 [H, W, 1 or 3].

    Raises:
        DataError: If the file is no image that can be read, has more pixels than Pillow takes for
            an image and not for an attack (`PIL.Image.MAX_IMAGE_PIXELS`), or has pixels whose range
            nobody knows (32-bit integers and floating point).
    """
    from PIL import ImageOps

    with opened(path) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            image = _from_16_bits(image)
        elif image.mode in ("I", "F"):
            raise DataError(
                f"{path} has pixels of 32 bits (Pillow's mode {image.mode}), whose range nobody "
                "knows; accepted are those of 8 or 16 bits"
            )
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = _on_black(upright)
        return _pixels(upright, "L" if grey else "RGB", size)


def is_grey(path: str) -> bool:
    """Whether an image file has no colours; reads its head alone. A palette counts as colour.

    Raises:
        DataError: If the file is no image that can be read.
    """
    with opened(path) as image:
        return image.mode in _GREY


@contextlib.contextmanager
def opened(path: str) -> Iterator["Image.Image"]:
    """Open an image file; what goes wrong while it is open is an error that names it.

    Raises:
        DataError: If it is no image, damaged, or has too many pixels.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                raise _too_large(path, f"{image.width}x{image.height}")
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "far more") from error
    except Image.UnidentifiedImageError as error:
        found = "an empty file" if os.path.getsize(path) == 0 else "no such image"
        raise DataError(
            f"{path} is {found}; accepted are {', '.join(_FORMATS)}; mend it, or remove it"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # Each of Pillow's readers raises errors of its own for a damaged file.
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}: {error}); mend it, or remove it"
        ) from error


def decode_image(encoded: bytes, mode: str, size: int = 0) -> np.ndarray:
    """Decode one PNG or JPEG, with Pillow as tfds does without OpenCV.

    Args:
        encoded: The content of the file.
        mode: Of `MODES`.
        size: As for `read_image`.

    Returns:
        uint8 [H, W, C].
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return _pixels(image, mode, size)


def resize_images(images: np.ndarray, size: int, where: str) -> np.ndarray:
    """Cut the middle square out of each image and resize it, as `read_image` does.

    Args:
        images: uint8 [N, H, W, C].
        size: Pixels on a side.
        where: What the images are, for the message.

    Returns:
        uint8 [N, size, size, C]; `images` itself where they have that size.

    Raises:
        DataError: If the images are no bytes, or have another number of channels than 1, 3 or 4.
    """
    from PIL import Image

    if images.shape[1:3] == (size, size):
        return images
    mode = MODES.get(images.shape[-1])
    if images.dtype != np.uint8 or mode is None:
        raise DataError(
            f"{where}: image_size={size} resizes uint8 [N, H, W, C] of {', '.join(map(str, MODES))}"
            f" channels, not {kind(images)}"
        )
    squeezed = images[..., 0] if mode == "L" else images
    return np.stack([_pixels(Image.fromarray(pixels), mode, size) for pixels in squeezed])


def without_size_warnings() -> warnings.catch_warnings:
    """A context in which Pillow does not warn of a size that `opened` refuses in the same breath.

    It is for a whole loop over files: what is warned of is a matter of the process, not of a
    thread.
    """
    from PIL import Image

    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)


def _pixels(image: "Image.Image", mode: str, size: int) -> np.ndarray:
    from PIL import Image, ImageOps

    if image.mode != mode:
        image = image.convert(mode)
    if size and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _from_16_bits(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))


def _on_black(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def _too_large(path: str, pixels: str) -> DataError:
    from PIL import Image

    return DataError(
        f"{path} has {pixels} pixels; accepted are images of at most {Image.MAX_IMAGE_PIXELS} "
        "(PIL.Image.MAX_IMAGE_PIXELS), for larger ones may be made to fill the memory; shrink it, "
        "or remove it"
    )
