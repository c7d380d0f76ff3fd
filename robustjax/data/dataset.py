"""The one form in which every data source hands over its images, and the one error they raise."""

from dataclasses import dataclass

import numpy as np

from robustjax.arguments import kind, refusal, require_whole
from robustjax.data.streamed_images import StreamedImages
from robustjax.errors import UserError

MOST_CLASSES = 100_000
"""More than any image data set has; a larger number is a mistake, and a network of no use."""


class DataError(UserError):
    """A data set cannot be had; the message tells a person what is wrong and what to do next."""


@dataclass(frozen=True)
class Dataset:
    """One split of a labelled image data set, held in memory on the host.

    Attributes:
        name: Name of the data set, as `data.load` takes it.
        images: Pixels, uint8 [N, H, W, C] in 0..255, or float32 in [0, 1]; or `StreamedImages`,
            which stand for them in training.
        labels: Class of each image, int32 [N] in 0..num_classes - 1.
        num_classes: Number of classes K of the task (not only those that occur in this split).
        class_names: One name per class, or empty where the source has none.

    Raises:
        ValueError: If a shape, a dtype or a label does not fit.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for part in ("images", "labels"):
            value = getattr(self, part)
            if not hasattr(value, "dtype"):
                raise self._refusal(part, type(value).__name__, "NumPy arrays")
            if not isinstance(value, StreamedImages):
                object.__setattr__(self, part, np.asarray(value))
        if self.images.dtype not in (np.uint8, np.float32) or self.images.ndim != 4:
            raise self._refusal("images", kind(self.images), "uint8 or float32 [N, H, W, C]")
        if 0 in self.images.shape:
            raise self._refusal("images", kind(self.images), "one image or more, of pixels")
        if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
            accepted = f"int32[{len(self.images)}], one per image"
            raise self._refusal("labels", kind(self.labels), accepted)
        if self.images.dtype == np.float32 and not (
            self.images.min() >= 0 and self.images.max() <= 1
        ):
            found = f"{self.images.min():.6g}..{self.images.max():.6g}"
            raise self._refusal("images", found, "pixels in [0, 1] where they are float32")
        require_whole(f"{self.name!r}: num_classes", self.num_classes, 1, MOST_CLASSES)
        object.__setattr__(self, "num_classes", int(self.num_classes))
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if lowest < 0 or highest >= self.num_classes:
            accepted = f"0..{self.num_classes - 1} (num_classes={self.num_classes})"
            raise self._refusal("labels", f"{lowest}..{highest}", accepted)
        if self.class_names and len(self.class_names) != self.num_classes:
            found = f"{len(self.class_names)} names"
            raise self._refusal("class_names", found, f"{self.num_classes}, one per class")

    def _refusal(self, part: str, came: str, accepted: str) -> UserError:
        return refusal(f"{self.name!r}: {part}", came, accepted)

    def __len__(self) -> int:
        return len(self.images)
