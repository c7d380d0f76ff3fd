"""What a run trains on: the labelled examples it was asked for, and extra ones if there are any."""

import dataclasses

import numpy as np

from robustjax import data
from robustjax.config import TrainConfig
from robustjax.data.joined import JoinedRows
from robustjax.training.step import RawBatch


@dataclasses.dataclass(frozen=True)
class TrainSet:
    """The training examples, the labelled ones first and the extra ones after them.

    Attributes:
      images: uint8 [N, H, W, C]; with extra ones, those of both sets by position.
      labels: int32 [N], -1 where an extra example has none.
      weights: float32 [N], of each example in the loss.
      num_labelled: how many are not extra.
      num_classes: of the task.
    """

    images: np.ndarray | JoinedRows
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
        data.load(config.dataset, config.train_split, data_dir=config.data_dir or None), config
    )
    if config.train_examples:
        whole = _flagged(
            f"--train_examples={config.train_examples}", data.first, whole, config.train_examples
        )
    size = data.default_holdout(len(whole.labels)) if config.holdout < 0 else config.holdout
    labelled, holdout_set = data.hold_out(whole, size)
    images: np.ndarray | JoinedRows = labelled.images
    extra_labels = np.zeros(0, np.int32)
    if config.extra_data:
        extra_images, extra_labels = data.load_extra(
            config.extra_data, labelled.num_classes, labelled.images.shape[1:]
        )
        images = JoinedRows(labelled.images, extra_images)
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
        raise ValueError(
            f"--batch_size={config.batch_size}: there are only {len(labelled)} training examples"
        )
    return train_set, holdout_set


def restrict(dataset: data.Dataset, config: TrainConfig) -> data.Dataset:
    """The examples of the classes that --classes names, renumbered; all if it names none."""
    if not config.classes:
        return dataset
    classes = tuple(int(label) for label in config.classes)
    return _flagged(f"--classes={','.join(map(str, classes))}", data.only_classes, dataset, classes)


def _flagged(flag: str, cut, dataset: data.Dataset, value) -> data.Dataset:
    try:
        return cut(dataset, value)
    except ValueError as error:
        raise ValueError(f"{flag}: {error}") from error
