"""One image file as an array: what Pillow reads, grey or in colour, of its own size or another."""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from robustjax import installed
from robustjax.arguments import kind
from robustjax.data.dataset import DataError
from robustjax.data.streamed_images import require_memory
from robustjax.progress import terminal_bar

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
_CHUNK = 1024
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
            f"dataset={dataset} is read with Pillow, which is not installed: "
            f"{installed.extra('data')}"
        )


@dataclasses.dataclass(frozen=True)
class EncodedImage:
    """An image file that lies within another file.

    Attributes:
        name: For messages.
        content: Of the image file.
    """

    name: str
    content: bytes

    def __str__(self) -> str:
        return self.name


def read_image(file: str | EncodedImage, *, grey: bool, size: int = 0) -> np.ndarray:
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
        file: Its path, or what it holds.
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

    with opened(file) as image:
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            image = _from_16_bits(image)
        elif image.mode in ("I", "F"):
            raise DataError(
                f"{file} has pixels of 32 bits (Pillow's mode {image.mode}), whose range nobody "
                "knows; accepted are those of 8 or 16 bits"
            )
        upright = ImageOps.exif_transpose(image)
        if upright.has_transparency_data:
            upright = _on_black(upright)
        return _pixels(upright, "L" if grey else "RGB", size)


def is_grey(file: str | EncodedImage) -> bool:
    """Whether an image file has no colours; reads its head alone. A palette counts as colour.

    Raises:
        DataError: If the file is no image that can be read.
    """
    with opened(file) as image:
        return image.mode in _GREY


@contextlib.contextmanager
def opened(file: str | EncodedImage) -> Iterator["Image.Image"]:
    """Open an image file; what goes wrong while it is open is an error that names it.

    Raises:
        DataError: If it is no image, damaged, or has too many pixels.
    """
    from PIL import Image

    try:
        source = io.BytesIO(file.content) if isinstance(file, EncodedImage) else file
        with Image.open(source, formats=_FORMATS) as image:
            most = Image.MAX_IMAGE_PIXELS
            if most is not None and image.width * image.height > most:
                raise _too_large(file, f"{image.width}x{image.height}")
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(file, "far more") from error
    except Image.UnidentifiedImageError as error:
        size = len(file.content) if isinstance(file, EncodedImage) else os.path.getsize(file)
        found = "no such image" if size else "an empty file"
        raise DataError(
            f"{file} is {found}; accepted are {', '.join(_FORMATS)}; mend it, or remove it"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # Each of Pillow's readers raises errors of its own for a damaged file.
        raise DataError(
            f"{file} cannot be read ({type(error).__name__}: {error}); mend it, or remove it"
        ) from error


def read_images(
    dataset: str, files: Sequence[str | EncodedImage], *, grey: bool, size: int
) -> np.ndarray:
    """Read image files, many at a time, with a bar on a terminal.

    Args:
        dataset: Name of the data set, for messages.
        files: One or more, as for `read_image`.
        grey: See `read_image`.
        size: See `read_image`; if 0, all images must have one size.

    Returns:
        uint8 [N, H, W, C], in the order of the files.

    Raises:
        DataError: If a file cannot be read, or has another size than the first.
        ValueError: If the images do not fit into the memory.
    """
    read = functools.partial(read_image, grey=grey, size=size)
    shape = read(files[0]).shape
    require_memory(dataset, len(files), shape)
    images = np.empty((len(files), *shape), np.uint8)
    bar = terminal_bar(sys.stderr, total=len(files), unit="image", desc="reading", initial=0)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            for row, pixels in enumerate(pool.map(read, chunk), start):
                if pixels.shape != shape:
                    raise DataError(
                        f"{files[row]} has {pixels.shape[0]}x{pixels.shape[1]} pixels, and "
                        f"{files[0]} has {shape[0]}x{shape[1]}; a network needs one size: add "
                        "image_size=PIXELS, to which images are cropped and resized"
                    )
                images[row] = pixels
            if bar is not None:
                bar.update(len(chunk))
    if bar is not None:
        bar.close()
    return images


def states_of(files: Sequence[str]) -> list[tuple[str, int, int]]:
    """What tells files from themselves before they were changed: path, size, time of change.

    Raises:
        DataError: If one of them is not there any more.
    """

    def state(path: str) -> tuple[str, int, int]:
        try:
            found = os.stat(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        return path, found.st_size, found.st_mtime_ns

    return [state(path) for path in files]


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


def _too_large(file: str | EncodedImage, pixels: str) -> DataError:
    from PIL import Image

    return DataError(
        f"{file} has {pixels} pixels; accepted are images of at most {Image.MAX_IMAGE_PIXELS} "
        "(PIL.Image.MAX_IMAGE_PIXELS), for larger ones may be made to fill the memory; shrink it, "
        "or remove it"
    )
