import dataclasses

import numpy as np
import pytest

from robustjax.data import Dataset

IMAGES = np.zeros((3, 4, 5, 1), np.uint8)
LABELS = np.array([0, 1, 2], np.int32)


def test_it_keeps_what_it_is_given():
    dataset = Dataset("toy", IMAGES, LABELS, 3, ("a", "b", "c"))
    assert len(dataset) == 3
    assert dataset.images is IMAGES and dataset.labels is LABELS
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": IMAGES.astype(np.float64)}, "uint8 or float32"),
        ({"images": IMAGES.astype(np.float32) + 2}, r"\[0, 1\] where they are float32"),
        ({"images": np.full_like(IMAGES, np.nan, np.float32)}, r"\[0, 1\]"),
        ({"images": IMAGES[..., 0]}, "uint8 or float32 .N, H, W, C."),
        ({"images": IMAGES.tolist()}, "images=list: accepted are NumPy arrays"),
        ({"num_classes": 10**15}, "num_classes=1000000000000000: accepted are whole numbers"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"images=uint8\[0, .*one image or more"),
        ({"labels": LABELS.astype(np.int64)}, "int32"),
        ({"labels": LABELS[:2]}, "one per image"),
        ({"labels": LABELS - 1}, r"labels=-1\.\.1: accepted are 0\.\.2 "),
        ({"num_classes": 2}, r"labels=0\.\.2: accepted are 0\.\.1 "),
        ({"class_names": ("a", "b")}, "class_names=2 names: accepted are 3"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fields = {"name": "toy", "images": IMAGES, "labels": LABELS, "num_classes": 3, **change}
    with pytest.raises(ValueError, match=message):
        Dataset(**fields)
