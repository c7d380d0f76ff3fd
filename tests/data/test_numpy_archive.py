import numpy as np
import pytest

from robustjax.data import DataError, load

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0], np.int64)
GOOD = {
    "images": IMAGES,
    "labels": LABELS,
    "test_images": IMAGES[:2],
    "test_labels": np.array([3, 1], np.uint8),
}


def write(tmp_path, **arrays):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return str(path)


def test_both_splits(tmp_path):
    path = write(tmp_path, **GOOD)
    train, test = load("npz", "train", data_dir=path), load("npz", "test", data_dir=path)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(train.labels, LABELS)
    np.testing.assert_array_equal(test.labels, [3, 1])
    # The largest label of the whole file counts, not that of the split.
    assert train.num_classes == test.num_classes == 4
    assert train.name == "npz" and train.class_names == ()


def test_compressed_files_extra_splits_and_names(tmp_path):
    path = str(tmp_path / "mine.npz")
    names = np.array(["a", "b", "c", "d", "e"])
    arrays = {**GOOD, "num_classes": 5, "class_names": names}
    np.savez_compressed(path, **arrays, extra_images=IMAGES[:1], extra_labels=LABELS[:1])
    dataset = load("npz", "train+extra", data_dir=path)
    assert len(dataset) == 8 and dataset.num_classes == 5
    assert dataset.class_names == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_the_unit_interval_become_bytes(tmp_path, dtype):
    path = write(tmp_path, **{**GOOD, "images": (IMAGES / 255).astype(dtype)})
    images = load("npz", "train", data_dir=path).images
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, r"no array 'images'.*'labels'.*\"images\" and \"labels\""),
        ({"labels": None}, "no array 'labels'"),
        ({"images": IMAGES.astype(np.float32)}, r"=float32 in \[0, 255\]: accepted are .*; divide"),
        ({"images": IMAGES / 255 - 0.5}, r"floating point in \[0, 1\]"),
        ({"images": np.full(IMAGES.shape, np.nan)}, r"floating point in \[0, 1\]"),
        ({"images": IMAGES.astype(np.int32)}, r"=int32\[.*: accepted are uint8"),
        ({"images": IMAGES[..., 0]}, r"\[7, 6, 5\]: accepted are \[N, H, W, C\].*None"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, "channels first.*transpose"),
        ({"images": IMAGES[:0]}, r"=uint8\[0, .*: accepted are \[N, H, W, C\]"),
        ({"labels": LABELS.astype(np.float32)}, r"labels=\w+\[.*: accepted are integers"),
        ({"labels": LABELS[:, None]}, r"labels=\w+\[.*: accepted are integers"),
        ({"labels": LABELS[:3]}, "one per image"),
        ({"labels": LABELS - 1}, r"labels=-1\.\.1: accepted are classes 0, 1, 2"),
        ({"num_classes": 3}, r"0\.\.2 .*num_classes=3"),
        ({"num_classes": 3.5}, "num_classes=3.5: accepted is one integer"),
        ({"class_names": np.array(["a"])}, "class_names=1 names: accepted are 4"),
        ({"images": np.array([{}] * 7, object)}, "'images' cannot be read.*pickle"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    arrays = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    split = "test" if change.get("num_classes") == 3 else "train"
    path = write(tmp_path, **arrays)
    with pytest.raises(DataError, match=f"(?s)mine.npz.*{message}"):
        load("npz", split, data_dir=path)


def test_a_missing_split_names_its_keys(tmp_path):
    path = write(tmp_path, images=IMAGES, labels=LABELS)
    with pytest.raises(DataError, match="'test_images' for the split 'test'"):
        load("npz", "test", data_dir=path)


def test_files_that_are_no_archive(tmp_path):
    with pytest.raises(DataError, match=r"data_dir=FILE\.npz"):
        load("npz", "train")
    with pytest.raises(DataError, match=r"absent\.npz: no such file"):
        load("npz", "train", data_dir=str(tmp_path / "absent.npz"))
    single = tmp_path / "one.npy"
    np.save(single, IMAGES)
    with pytest.raises(DataError, match="holds one array"):
        load("npz", "train", data_dir=str(single))
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    with pytest.raises(DataError, match=r"numpy\.savez"):
        load("npz", "train", data_dir=str(text))
    with pytest.raises(DataError, match="data_dir"):
        load("npz", "train", data_dir=str(tmp_path))
    whole = write(tmp_path, **GOOD)
    data = bytearray((tmp_path / "mine.npz").read_bytes())
    data[300] ^= 1
    (tmp_path / "mine.npz").write_bytes(data)
    with pytest.raises(DataError, match="'images' cannot be read"):
        load("npz", "train", data_dir=whole)
