"""Images and labels: sources, splits, epochs and augmentation."""

from robustjax.data.augmentation import Augmentation, augment, default_augmentation, to_float
from robustjax.data.batches import epoch_order
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.preparation import prepare
from robustjax.data.sources import default_data_dir, load
from robustjax.data.splits import default_holdout, hold_out, select, stratified_positions

__all__ = [
    "Augmentation",
    "DataError",
    "Dataset",
    "augment",
    "default_augmentation",
    "default_data_dir",
    "default_holdout",
    "epoch_order",
    "hold_out",
    "load",
    "prepare",
    "select",
    "stratified_positions",
    "to_float",
]
