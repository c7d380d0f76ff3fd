import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from robustjax.data import DataError, load


def rows(images):
    return sorted(image.tobytes() for image in images)


def test_the_split_is_a_fixed_partition_of_scikit_learns_digits():
    source = datasets.load_digits()
    train, test = load("digits", "train"), load("digits", "test")
    assert train.images.shape == (1437, 8, 8, 1) and test.images.shape == (360, 8, 8, 1)
    assert train.num_classes == 10 and train.class_names == tuple("0123456789")
    # 255/16 is not an integer, but no pixel lies half way between two bytes.
    expected = [
        np.array([[int(255 * int(v) / 16 + 0.5) for v in row] for row in image], np.uint8)
        for image in source.images
    ]
    assert rows(np.concatenate([train.images, test.images])[..., 0]) == rows(expected)
    again = load("digits", "test")
    np.testing.assert_array_equal(again.images, test.images)
    np.testing.assert_array_equal(again.labels, test.labels)


def test_labels_stay_with_their_images():
    source = datasets.load_digits()
    truth = {image.tobytes(): label for image, label in zip(source.images, source.target)}  # noqa: B905
    for split in ("train", "test"):
        dataset = load("digits", split)
        originals = np.round(dataset.images[..., 0] * (16 / 255)).astype(np.float64)
        labels = [truth[image.tobytes()] for image in originals]
        np.testing.assert_array_equal(dataset.labels, labels)


def test_classes_are_represented_in_proportion():
    total = np.bincount(datasets.load_digits().target)
    counts = np.bincount(load("digits", "test").labels)
    assert np.all(np.abs(counts - total * 360 / 1797) < 1)


def test_pixels_use_the_whole_range():
    images = load("digits", "train").images
    assert images.min() == 0 and images.max() == 255


@pytest.mark.parametrize("split", ["extra", "validation", ""])
def test_another_split_is_refused(split):
    with pytest.raises(DataError, match='"train" and "test"'):
        load("digits", split)


def test_both_splits_can_be_joined():
    assert len(load("digits", "train+test")) == 1797


def test_they_are_read_without_importing_scikit_learn():
    program = (
        "import sys; from robustjax import data; print(len(data.load('digits', 'train')), "
        "'sklearn' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout == "1437 False\n"


def test_a_scikit_learn_that_keeps_its_file_elsewhere_is_asked(monkeypatch):
    expected = load("digits", "test")
    monkeypatch.setattr("robustjax.data.digits.Path.is_file", lambda path: False)
    found = load("digits", "test")
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_without_scikit_learn_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        load("digits", "test")
