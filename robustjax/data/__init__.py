"""Images and labels: sources, splits, epochs, augmentation, mixing, extra images.

Sets of images are arrays on the host here; they become batches on devices in `training`. Data sets
that were prepared beforehand are read in `prepared`.
"""

from robustjax.data.augmentation import Augmentation, augment, default_augmentation, to_float
from robustjax.data.batches import (
    epoch_order,
    mixed_epoch_order,
    shares_of_batch,
    steps_per_epoch,
)
from robustjax.data.dataset import DataError, Dataset
from robustjax.data.extra import load_extra, load_images
from robustjax.data.image_folder import load_image_folder
from robustjax.data.mixing import Mixing, mix, partners
from robustjax.data.prepared.preparation import prepare
from robustjax.data.sources import (
    NAMED_BY_PATH,
    default_data_dir,
    give,
    load,
    register,
    require_known,
)
from robustjax.data.splits import (
    default_holdout,
    first,
    hold_out,
    only_classes,
    select,
    stratified_positions,
)
from robustjax.data.three_clusters import three_clusters

__all__ = [
    "NAMED_BY_PATH",
    "Augmentation",
    "DataError",
    "Dataset",
    "Mixing",
    "augment",
    "default_augmentation",
    "default_data_dir",
    "default_holdout",
    "epoch_order",
    "first",
    "give",
    "hold_out",
    "load",
    "load_extra",
    "load_image_folder",
    "load_images",
    "mix",
    "mixed_epoch_order",
    "only_classes",
    "partners",
    "prepare",
    "register",
    "require_known",
    "select",
    "shares_of_batch",
    "steps_per_epoch",
    "stratified_positions",
    "three_clusters",
    "to_float",
]
