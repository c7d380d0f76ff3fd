"""Random crops and mirror images, computed on the device, one key per example."""

import functools
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import platforms
from robustjax.arguments import (
    did_you_mean,
    kind,
    plain,
    refusal,
    require_choice,
    require_truth,
    require_whole,
    shown,
)
from robustjax.errors import UserError

PADDING_MODES = ("zero", "reflect")
_CHOICES = (
    '"none", or parts joined by "-": "cropP" (zero padding of P pixels) or "reflectP" '
    '(reflecting), and "flip"; for example "crop4-flip"'
)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a training image before it is attacked.

    Attributes:
        crop_padding: Pixels added on every side before a crop of the original size; 0: no crop.
        padding_mode: "zero" (black), or "reflect" (mirrored at the border, edge not repeated).
        flip: Whether to mirror left and right with probability one half.

    Raises:
        ValueError: If a value is not one of these.
    """

    crop_padding: int = 0
    padding_mode: str = "zero"
    flip: bool = False

    def __post_init__(self) -> None:
        _check(self.crop_padding, self.padding_mode, self.flip)
        for name in ("crop_padding", "flip"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @classmethod
    def parse(cls, text: str) -> "Augmentation":
        """Read the text of a flag.

        Args:
            text: "none", "crop4", "reflect4", "flip", "crop4-flip", "reflect4-flip", ...

        Returns:
            The augmentation; `str` gives the text back.

        Raises:
            ValueError: If the text is not of this form.
        """
        if not isinstance(text, str):
            raise UserError(f"augmentation={shown(text)}: accepted are {_CHOICES}")
        if text == "none":
            return cls()
        first, *rest = text.split("-")
        crop = re.fullmatch(r"(crop|reflect)([1-9][0-9]{0,8})", first)
        others = rest if crop else [first, *rest]
        if others not in ([], ["flip"]):
            hint = did_you_mean(text, ("none", "flip", "crop4", "crop4-flip", "reflect4-flip"))
            raise UserError(f"augmentation={shown(text)}: accepted are {_CHOICES}{hint}")
        if not crop:
            return cls(flip=True)
        mode = "reflect" if crop[1] == "reflect" else "zero"
        return cls(int(crop[2]), mode, flip=bool(others))

    def require_fitting(self, size: tuple[int, int]) -> None:
        """See that something of an image is left by any crop, and that a border can be mirrored.

        Args:
            size: Height and width of the images.

        Raises:
            ValueError: If not; the message says how many pixels may be added.
        """
        if self.crop_padding >= min(size):
            raise UserError(
                f"images of {size[0]}x{size[1]} may be padded by 0 to {min(size) - 1} pixels, not "
                f"by {self.crop_padding}"
            )

    def __str__(self) -> str:
        crop = {"zero": "crop", "reflect": "reflect"}[self.padding_mode]
        parts = [f"{crop}{self.crop_padding}"] if self.crop_padding else []
        return "-".join(parts + ["flip"] * self.flip) or "none"


def default_augmentation(dataset_name: str) -> Augmentation:
    """Crops of zero-padded images and flips for CIFAR, as in the papers; nothing elsewhere.

    Digits (MNIST, SVHN, scikit-learn's) change their meaning when mirrored.

    Args:
        dataset_name: As `data.load` takes it.

    Returns:
        The augmentation to use when none is asked for.
    """
    if dataset_name in ("cifar10", "cifar100"):
        return Augmentation(crop_padding=4, flip=True)
    return Augmentation()


def augment(
    keys: jax.Array,
    images: jax.Array,
    *,
    crop_padding: int,
    padding_mode: str = "zero",
    flip: bool,
) -> jax.Array:
    """Crop and mirror each image at random.

    An image is padded by P pixels on every side and cut to its old size at an offset drawn
    uniformly from {0..2P} x {0..2P}, then mirrored left to right with probability one half. Example
    i draws from its own key alone, so its result does not depend on the rest of the batch.

    Args:
        keys: Typed PRNG keys, [B].
        images: Images, [B, H, W, C]; float32 in [0, 1], though any dtype passes unchanged.
        crop_padding: P in pixels, 0 for no crop.
        padding_mode: "zero" or "reflect"; either needs P < min(H, W).
        flip: Whether to mirror at all.

    Returns:
        Images of the same shape and dtype.

    Raises:
        ValueError: If an option or a shape does not fit.

    Source: zero padding of 4 and flips, He et al. (2016), section 4.2.
    """
    _check(crop_padding, padding_mode, flip)
    if np.ndim(images) != 4:
        raise refusal("images", str(list(np.shape(images))), "[B, H, W, C]")
    require_keys(keys, images.shape[0])
    height, width = images.shape[1:3]
    Augmentation(crop_padding, padding_mode, flip).require_fitting((height, width))
    keys = jax.vmap(jax.random.split)(keys)
    if crop_padding:
        margin = (crop_padding, crop_padding)
        mode = "constant" if padding_mode == "zero" else "reflect"
        images = jnp.pad(images, ((0, 0), margin, margin, (0, 0)), mode=mode)

        first = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * crop_padding + 1))
        images = platforms.for_platform(
            images,
            first(keys[:, 0]),
            tpu=functools.partial(_crop_by_selection, size=(height, width)),
            other=functools.partial(_crop_by_slices, size=(height, width)),
        )
    if flip:
        mirrored = jax.vmap(jax.random.bernoulli)(keys[:, 1])
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images


def _crop_by_slices(images: jax.Array, first: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Of each image the pixels from `first`, its row and column, on."""

    def crop(image: jax.Array, first: jax.Array) -> jax.Array:
        begin = (first[0], first[1], jnp.zeros_like(first[0]))
        return jax.lax.dynamic_slice(image, begin, (*size, image.shape[2]))

    return jax.vmap(crop)(images, first)


def _crop_by_selection(images: jax.Array, first: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The same, where slices at positions that differ would become a loop over the images."""
    for axis, length in zip((1, 2), size, strict=True):
        begin = first[:, axis - 1, None, None, None]
        cropped = jax.lax.slice_in_dim(images, 0, length, axis=axis)
        for number in range(1, images.shape[axis] - length + 1):
            moved = jax.lax.slice_in_dim(images, number, number + length, axis=axis)
            cropped = jnp.where(begin == number, moved, cropped)
        images = cropped
    return images


def to_float(images: jax.Array | np.ndarray) -> jax.Array:
    """Bring the images of a data set to the unit interval: bytes become x / 255.

    Args:
        images: Pixels, uint8, or float32 in [0, 1], which stay as they are; any shape.

    Returns:
        float32 in [0, 1], same shape.

    Raises:
        ValueError: If the images are neither.
    """
    images = jnp.asarray(images)
    if images.dtype == jnp.float32:
        return images
    if images.dtype != jnp.uint8:
        raise refusal("images", kind(images), "uint8 in 0..255, and float32 in [0, 1]")
    return images.astype(jnp.float32) / 255


def require_keys(keys: jax.Array, batch_size: int) -> None:
    """Refuses what is not one typed key for each image of a batch."""
    dtype = getattr(keys, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed or keys.shape != (batch_size,):
        accepted = (
            f"{batch_size} typed PRNG keys, one per image (jax.random.split(jax.random.key(0), B))"
        )
        raise refusal("keys", type(keys).__name__ if dtype is None else kind(keys), accepted)


def _check(crop_padding: int, padding_mode: str, flip: bool) -> None:
    require_whole("crop_padding", crop_padding)
    require_choice("padding_mode", padding_mode, PADDING_MODES)
    require_truth("flip", flip)
