"""Adversarial images that somebody made elsewhere, in a file, as an attack of an evaluation."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from robustjax import data
from robustjax.arguments import kind
from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.npz import NpzFile

SUFFIX = ".npz"
"""Ends the name of such a file; no other attack is called so."""

FORM = f"FILE{SUFFIX} (adversarial images of your own)"
"""How such an attack is written, for help and messages."""

_AXES = ("N", "H", "W", "C")


class GivenImages(NamedTuple):
    """What a file holds.

    Attributes:
      images: float32 [N, H, W, C], of the first N examples.
      labels: int [N]; None if the file does not say.
      clean_images: float32 [N, H, W, C], from which they were made; None likewise.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    clean_images: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An attack that was made elsewhere: its images are in a file, and are judged here.

    Attributes:
      file: an .npz with `images` [N, H, W, C], uint8 or floating point in [0, 1], of the first N
        examples in their order; perhaps `labels` and `clean_images`, which then have to be those of
        the data set.
      digest: the first letters of that of the arrays; None: not read yet.
    """

    file: str
    digest: str | None = None

    def completed(self, threat: ThreatModel, num_classes: int) -> ImageFile:
        """With the digest of what the file holds."""
        return dataclasses.replace(self, digest=digest(*read(self.file))[:16])


def is_image_file(name: Any) -> bool:
    """Whether the name of an attack is that of a file of images."""
    return isinstance(name, str) and name.endswith(SUFFIX)


def read(file: str) -> GivenImages:
    """Reads a file; nothing in it is executed.

    Raises:
      ValueError: it is not there, or holds something else; names it.
    """
    where, path = f"attack={file}", Path(file).expanduser()
    if not path.exists():
        raise UserError(f"{where}: there is no such file")
    try:
        with NpzFile(path.read_bytes()) as stored:
            names = [name for name in GivenImages._fields if name in stored]
            found = {name: stored[name] for name in names}
            other = sorted(stored)
    except (OSError, ValueError) as error:
        raise UserError(f"{where} cannot be read: {error}") from error
    if "images" not in found:
        raise UserError(f"{where}: it has no array 'images'; it has {other}")
    for name in names:
        found[name] = (_labels if name == "labels" else _images)(f"{where}: {name}", found[name])
        if len(found[name]) != len(found["images"]):
            raise UserError(
                f"{where}: it has {len(found['images'])} images and {len(found[name])} {name}"
            )
    return GivenImages(**found)


def fitting_images(file: str, dataset: data.Dataset, threat: ThreatModel) -> np.ndarray:
    """The images of a file, which are of a data set and inside of a threat model.

    Args:
      file: of the images.
      dataset: what is attacked.
      threat: the norm ball and the box.

    Returns:
      float32 [M, H, W, C], of the first M examples: of as many as both have.

    Raises:
      ValueError: they are of other images, or outside of the ball or the box.
    """
    given, where = read(file), f"attack={file}"
    count = min(len(given.images), len(dataset))
    clean = np.array(data.to_float(dataset.images[:count]))
    images = given.images[:count]
    if images.shape != clean.shape:
        raise UserError(
            f"{where}: its images are {_shape(images)}, those of the data set {_shape(clean)}"
        )
    if given.labels is not None and not np.array_equal(
        given.labels[:count], dataset.labels[:count]
    ):
        raise UserError(
            f"{where}: its labels are not those of the first {count} examples of the data set"
        )
    if given.clean_images is not None and not np.allclose(
        given.clean_images[:count], clean, rtol=0, atol=1e-6
    ):
        raise UserError(
            f"{where}: its clean_images are not the first {count} images of the data set"
        )
    inside = is_inside(images, clean, threat.norm, float(threat.epsilon), threat.bounds)
    if not inside.all():
        raise UserError(
            f"{where}: {(~inside).sum()} of {count} images, the first of them number "
            f"{np.flatnonzero(~inside)[0]}, lie outside of the {threat.norm} ball of "
            f"epsilon={float(threat.epsilon):.6g} around the first {count} images of the data set, "
            f"or of the box {threat.bounds}: is it this data set, this order, and this radius?"
        )
    return images


def _images(where: str, images: np.ndarray) -> np.ndarray:
    accepted = "uint8 in 0..255 and floating point in [0, 1], [N, H, W, C]"
    if images.ndim != len(_AXES) or 0 in images.shape:
        raise UserError(f"{where}={kind(images)}: accepted are {accepted}")
    if images.shape[1] <= 4 < images.shape[3]:
        raise UserError(
            f"{where}={kind(images)}: accepted are {accepted}, and this looks like channels first; "
            "reorder it: images.transpose(0, 2, 3, 1)"
        )
    if images.dtype == np.uint8:
        return np.array(data.to_float(images))
    if images.dtype.kind != "f" or images.dtype.itemsize > 8:
        raise UserError(f"{where}={kind(images)}: accepted are {accepted}")
    return images.astype(np.float32)


def _labels(where: str, labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(f"{where}={kind(labels)}: accepted are integers [N]")
    return labels


def _shape(images: np.ndarray) -> str:
    return "x".join(map(str, images.shape[1:]))
