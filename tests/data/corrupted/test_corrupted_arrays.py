"""Folders of CIFAR-10-C's files that the tests write, sound and damaged."""

import numpy as np
import pytest

from robustjax.data.corrupted import CORRUPTIONS, open_corrupted_images
from robustjax.data.dataset import DataError

RANDOM = np.random.default_rng(0)
LABELS = np.array([2, 0, 1, 1])


@pytest.fixture
def folder(tmp_path):
    """Three corruptions of four images; the names are in no order."""
    for name in ("zebra", "speckle_noise", "fog", "gaussian_noise"):
        images = RANDOM.integers(0, 256, (20, 4, 4, 3)).astype(np.uint8)
        np.save(tmp_path / f"{name}.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    return tmp_path


def test_the_benchmark_has_fifteen_corruptions():
    assert len(CORRUPTIONS) == len(set(CORRUPTIONS)) == 15


def test_a_severity_is_a_fifth_of_the_rows(folder):
    found = open_corrupted_images(str(folder))
    assert found.names == ("gaussian_noise", "fog", "speckle_noise", "zebra")
    everything = np.load(folder / "fog.npy")
    for severity in range(1, 6):
        dataset = found.dataset("fog", severity)
        np.testing.assert_array_equal(dataset.images, everything[4 * severity - 4 : 4 * severity])
        np.testing.assert_array_equal(dataset.labels, LABELS)
        assert dataset.num_classes == 3 and dataset.labels.dtype == np.int32


def test_labels_of_one_severity_are_enough(folder):
    np.save(folder / "labels.npy", LABELS.astype(np.uint8))
    np.testing.assert_array_equal(open_corrupted_images(str(folder)).labels, LABELS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels", np.arange(20), "labels of the severities differ"),
        ("labels", np.arange(7), "has 7 labels, and gaussian_noise.npy 20 images"),
        ("labels", np.float32(LABELS), "accepted are integers"),
        ("labels", -LABELS, "labels in -2..0"),
        ("labels", np.array(3), "holds no array"),
        ("gaussian_noise", np.zeros((20, 4, 4, 3)), "accepted is uint8"),
        ("gaussian_noise", np.zeros((20, 4, 4), np.uint8), "accepted is uint8"),
        ("fog", np.zeros((15, 4, 4, 3), np.uint8), r"accepted is uint8 \[20, H, W, C\]"),
    ],
)
def test_what_does_not_fit_is_named(folder, name, content, message):
    np.save(folder / f"{name}.npy", content)
    with pytest.raises(DataError, match=message):
        found = open_corrupted_images(str(folder))
        for corruption in found.names:
            found.dataset(corruption, 1)


def test_damaged_files_pickles_and_absent_ones_are_refused(folder):
    path = folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"fog\.npy cannot be read"):
        open_corrupted_images(str(folder)).dataset("fog", 1)
    np.save(folder / "labels.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"labels\.npy cannot be read.* no pickle"):
        open_corrupted_images(str(folder))
    (folder / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"has no labels\.npy"):
        open_corrupted_images(str(folder))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_corrupted_images(str(folder / "absent"))
    (folder / "empty").mkdir()
    np.save(folder / "empty" / "labels.npy", LABELS)
    with pytest.raises(DataError, match="has no array of images"):
        open_corrupted_images(str(folder / "empty"))


def test_a_name_or_a_severity_that_is_not_there(folder):
    found = open_corrupted_images(str(folder))
    with pytest.raises(ValueError, match="name=snow"):
        found.dataset("snow", 1)
    with pytest.raises(ValueError, match="severity=6"):
        found.dataset("fog", 6)
