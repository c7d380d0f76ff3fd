"""Folders of ImageNet-C's layout that the tests write, whole and with something wrong."""

import numpy as np
import pytest
from PIL import Image

from robustjax.data.corrupted import open_corrupted_images
from robustjax.data.dataset import DataError

RANDOM = np.random.default_rng(0)
CORRUPTIONS = ("zebra", "fog", "gaussian_noise")
CLASSES = ("1", "n02")


@pytest.fixture
def written(tmp_path):
    """Three corruptions of two images of each of two classes; gives the images by their path."""
    found = {}
    for corruption in CORRUPTIONS:
        for severity in range(1, 6):
            for name in CLASSES:
                folder = tmp_path / "c" / corruption / str(severity) / name
                folder.mkdir(parents=True)
                for number in range(2):
                    pixels = RANDOM.integers(0, 256, (4, 6, 3)).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}.png")
                    found[corruption, severity, name, number] = pixels
    return found


def expected(written, corruption, severity):
    """The images of a severity; classes alternate."""
    rows = [(name, number) for number in range(2) for name in CLASSES]
    return np.stack([written[corruption, severity, *row] for row in rows])


@pytest.mark.parametrize("around", [False, True])
def test_a_severity_is_a_folder(tmp_path, written, around):
    """As ImageNet-C's archives are unpacked beside each other, or each into a folder of its own."""
    root = tmp_path / "c"
    if around:
        for group, corruption in (("noise", "gaussian_noise"), ("weather", "fog")):
            (root / group).mkdir()
            (root / corruption).rename(root / group / corruption)
    found = open_corrupted_images(str(root))
    assert found.names == ("gaussian_noise", "fog", "zebra")
    assert found.labels.tolist() == [0, 1, 0, 1]
    for corruption, severity in (("fog", 1), ("zebra", 5)):
        dataset = found.dataset(corruption, severity)
        np.testing.assert_array_equal(dataset.images, expected(written, corruption, severity))
        assert dataset.labels.tolist() == [0, 1, 0, 1] and dataset.class_names == CLASSES
    two = found.dataset("fog", 2, examples=2)
    np.testing.assert_array_equal(two.images, expected(written, "fog", 2)[:2])
    assert two.labels.tolist() == [0, 1]
    assert found.dataset("fog", 2, image_size=3).images.shape == (4, 3, 3, 3)


def test_what_does_not_fit_is_named(tmp_path, written):
    root = tmp_path / "c"

    def refusal(corruption="fog", severity=3):
        with pytest.raises(DataError) as caught:
            open_corrupted_images(str(root)).dataset(corruption, severity)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    path = root / "fog" / "3" / "1" / "0.png"
    path.write_bytes(path.read_bytes()[:60])
    assert f"{path} cannot be read" in refusal()
    path.unlink()
    (path.parent / "1.png").unlink()
    assert f"{path.parent} has no image" in refusal()
    path.parent.rename(path.parent.with_name("n03"))
    assert "fog/3 has not the classes of gaussian_noise/1: '1' is in one" in refusal()
    (root / "fog" / "4").rename(root / "fog" / "04")
    assert "fog/4 is not there; accepted is CORRUPTION/SEVERITY/CLASS" in refusal(severity=4)
    with pytest.raises(ValueError, match="severity=6"):
        open_corrupted_images(str(root)).dataset("fog", 6)
    (root / "more" / "fog" / "1").mkdir(parents=True)
    assert "are both called 'fog'" in refusal()


def test_a_folder_of_neither_is_told_both_layouts(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no labels\.npy; .*CORRUPTION/SEVERITY/CLASS"):
        open_corrupted_images(str(tmp_path))
