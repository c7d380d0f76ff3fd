"""What a run trains on: the labelled examples it was asked for, and extra ones if there are any."""

import dataclasses
import hashlib
import warnings
from typing import Any

import numpy as np

from robustjax import data
from robustjax.config import TrainConfig
from robustjax.data.extra import READ_WHOLE
from robustjax.data.image_rows import JoinedRows
from robustjax.data.streamed_images import StreamedImages
from robustjax.errors import UserError
from robustjax.training.step import RawBatch

_MOST_CLASSES_OF_AN_EXAMPLE = 10
"""Where there are more, a label is no class, but a mistake."""

_ROWS_OF_MANY, _ROWS_AT_A_TIME = 4096, 1024
"""Of a digest: so many rows stand for images that stay in their file; so many are read at once."""


@dataclasses.dataclass(frozen=True)
class TrainSet:
    """The training examples, the labelled ones first and the extra ones after them.

    Attributes:
      images: uint8 [N, H, W, C]; with extra ones, those of both sets by position; streamed ones
        are read when a batch has them.
      labels: int32 [N], -1 where an extra example has none.
      weights: float32 [N], of each example in the loss.
      num_labelled: how many are not extra.
      num_classes: of the task.
    """

    images: np.ndarray | JoinedRows | StreamedImages
    labels: np.ndarray
    weights: np.ndarray
    num_labelled: int
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def steps_per_epoch(self, config: TrainConfig) -> int:
        """How many batches `epoch_order` has, without drawing it.

        Raises:
          ValueError: the batch size or the extra fraction is not accepted; names the flag.
        """
        if not self._has_extra:
            return data.steps_per_epoch(self.num_labelled, config.batch_size)
        labelled, _ = data.shares_of_batch(config.batch_size, config.extra_fraction)
        return data.steps_per_epoch(self.num_labelled, labelled)

    def epoch_order(self, config: TrainConfig, epoch: int) -> np.ndarray:
        """The batches of an epoch as positions in the set, int32 [steps, batch_size]."""
        if not self._has_extra:
            return data.epoch_order(config.seed, epoch, self.num_labelled, config.batch_size)
        return data.mixed_epoch_order(
            config.seed,
            epoch,
            self.num_labelled,
            len(self.labels) - self.num_labelled,
            config.batch_size,
            config.extra_fraction,
        )

    @property
    def _has_extra(self) -> bool:
        return self.num_labelled < len(self.labels)

    def batch(self, index: np.ndarray) -> RawBatch:
        """The examples at some positions, NumPy leaves [B, ...].

        Args:
          index: int32 [B].
        """
        return RawBatch(
            images=self.images[index],
            labels=self.labels[index],
            index=index,
            weight=self.weights[index],
        )

    def digest(self) -> str:
        """Tells this set from any other: a digest of its labels and pixels.

        Of images that are so many that they stay in their file, some thousand rows stand for all.
        """
        total = hashlib.sha256(self.digest_of_labels().encode())
        parts: tuple[Any, ...] = (
            self.images.parts if isinstance(self.images, JoinedRows) else (self.images,)
        )
        for part in parts:
            rows = part
            if part.nbytes > READ_WHOLE:
                rows = part[np.linspace(0, len(part) - 1, _ROWS_OF_MANY).astype(np.int64)]
            total.update(f"{part.dtype}{part.shape}".encode())
            for first in range(0, len(rows), _ROWS_AT_A_TIME):
                total.update(np.ascontiguousarray(rows[first : first + _ROWS_AT_A_TIME]).data)
        return total.hexdigest()[:16]

    def digest_of_labels(self) -> str:
        """A digest of the shape and the labels, all that checkpoints of the first format have."""
        content = f"{self.images.shape}".encode() + self.labels.tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    def sample(self, size: int) -> data.Dataset:
        """At most `size` of the labelled examples, in proportion to the classes."""
        labels = self.labels[: self.num_labelled]
        chosen = data.stratified_positions(labels, min(size, self.num_labelled))
        return data.Dataset("sample", self.images[chosen], labels[chosen], self.num_classes)


def create_train_set(config: TrainConfig) -> tuple[TrainSet, data.Dataset | None]:
    """Reads the data of an experiment.

    Returns:
      What to train on, and what was held out of it to choose the best checkpoint (None: nothing).

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    whole = restrict(
        data.load(
            config.dataset,
            config.train_split,
            data_dir=config.data_dir or None,
            image_size=config.image_size,
            stream=config.stream,
        ),
        config,
    )
    if config.train_examples:
        whole = _flagged(
            f"train_examples={config.train_examples}", data.first, whole, config.train_examples
        )
    _require_classes(whole, config)
    size = data.default_holdout(len(whole.labels)) if config.holdout < 0 else config.holdout
    labelled, holdout_set = data.hold_out(whole, size)
    images: Any = labelled.images
    extra_labels = np.zeros(0, np.int32)
    if config.extra_data:
        extra_images, extra_labels = data.load_extra(
            config.extra_data, labelled.num_classes, labelled.images.shape[1:]
        )
        try:
            images = JoinedRows(labelled.images, extra_images)
        except ValueError as error:
            raise UserError(f"extra_data={config.extra_data}: {error}") from error
    train_set = TrainSet(
        images=images,
        labels=np.concatenate([labelled.labels, extra_labels]),
        weights=np.concatenate(
            [
                np.ones(len(labelled), np.float32),
                np.full(len(extra_labels), config.extra_weight, np.float32),
            ]
        ),
        num_labelled=len(labelled),
        num_classes=labelled.num_classes,
    )
    if config.batch_size > len(labelled):
        raise UserError(
            f"batch_size={config.batch_size}: there are only {len(labelled)} training examples"
        )
    return train_set, holdout_set


def _require_classes(dataset: data.Dataset, config: TrainConfig) -> None:
    """Refuses labels that are no classes of anything, and says where some have no example."""
    where = f"dataset={config.dataset} data_dir={config.data_dir}"
    if dataset.num_classes < 2:
        raise UserError(f"{where} has one class; a classifier needs two or more")
    if dataset.num_classes > _MOST_CLASSES_OF_AN_EXAMPLE * len(dataset):
        raise UserError(
            f"{where} has {dataset.num_classes} classes for {len(dataset)} examples; number the "
            "classes from 0"
        )
    absent = np.setdiff1d(np.arange(dataset.num_classes), dataset.labels)
    if len(absent):
        shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        warnings.warn(
            f"{where}: no training example is of class {shown}; the network gets "
            f"{dataset.num_classes} outputs. Classes are numbered from 0; an .npz may say their "
            "number as num_classes",
            stacklevel=2,
        )


def restrict(dataset: data.Dataset, config: TrainConfig) -> data.Dataset:
    """The examples of the classes that are named, renumbered; all if it names none."""
    if not config.classes:
        return dataset
    classes = tuple(int(label) for label in config.classes)
    return _flagged(f"classes={','.join(map(str, classes))}", data.only_classes, dataset, classes)


def _flagged(flag: str, cut, dataset: data.Dataset, value) -> data.Dataset:
    try:
        return cut(dataset, value)
    except ValueError as error:
        raise UserError(f"{flag}: {error}") from error
