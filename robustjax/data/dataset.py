"""The one form in which every data source hands over its images, and the one error they raise."""

from dataclasses import dataclass

import numpy as np

from robustjax.arguments import require_whole
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
        images: Pixels, uint8 [N, H, W, C] in 0..255, or float32 in [0, 1].
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
                raise UserError(
                    f"{part} of {self.name!r} must be a NumPy array, got {type(value).__name__}"
                )
            object.__setattr__(self, part, np.asarray(value))
        if self.images.dtype not in (np.uint8, np.float32) or self.images.ndim != 4:
            raise UserError(
                f"images of {self.name!r} must be uint8 or float32 [N, H, W, C], "
                f"got {self.images.dtype} {list(self.images.shape)}"
            )
        if 0 in self.images.shape:
            raise UserError(f"images of {self.name!r} are empty: shape {list(self.images.shape)}")
        if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
            raise UserError(
                f"labels of {self.name!r} must be int32 [{len(self.images)}], one per image, "
                f"got {self.labels.dtype} {list(self.labels.shape)}"
            )
        if self.images.dtype == np.float32 and not (
            self.images.min() >= 0 and self.images.max() <= 1
        ):
            raise UserError(
                f"images of {self.name!r} must lie in [0, 1] where they are float32, "
                f"got {self.images.min():.6g}..{self.images.max():.6g}"
            )
        require_whole(
            f"num_classes of {self.name!r}: num_classes", self.num_classes, 1, MOST_CLASSES
        )
        object.__setattr__(self, "num_classes", int(self.num_classes))
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if lowest < 0 or highest >= self.num_classes:
            raise UserError(
                f"labels of {self.name!r} must lie in 0..{self.num_classes - 1} "
                f"(num_classes={self.num_classes}), got {lowest}..{highest}"
            )
        if self.class_names and len(self.class_names) != self.num_classes:
            raise UserError(
                f"class_names of {self.name!r} must be {self.num_classes} names, "
                f"got {len(self.class_names)}"
            )

    def __len__(self) -> int:
        return len(self.images)
