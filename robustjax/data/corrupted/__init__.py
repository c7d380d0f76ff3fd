"""Test images that were corrupted by others, by corruption and severity, as they lie on the disk.

`corrupted_arrays` reads the files of CIFAR-10-C, `corrupted_folders` the folders of ImageNet-C, and
`corrupted_images` says what both give. How well a network does on them is measured elsewhere.
"""

from robustjax.data.corrupted.corrupted_images import (
    CORRUPTIONS,
    LAYOUT,
    SEVERITIES,
    CorruptedImages,
    open_corrupted_images,
)

__all__ = ["CORRUPTIONS", "LAYOUT", "SEVERITIES", "CorruptedImages", "open_corrupted_images"]
