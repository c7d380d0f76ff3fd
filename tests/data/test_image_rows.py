"""Extra images that stay in their file, and two sets of images under one numbering."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax import data
from robustjax.data.image_rows import JoinedRows, mapped
from robustjax.npz import NpzError, NpzFile

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("prefix", ["", "another_member_before_"])
def test_what_is_mapped_is_what_was_saved(tmp_path, prefix):
    path = tmp_path / "file.npz"
    np.savez(path, **({prefix: np.arange(7)} if prefix else {}), image=IMAGES, label=np.arange(50))
    with NpzFile(path) as archive:
        images = mapped(archive, "image", IMAGES.nbytes)
        labels = mapped(archive, "label", 0)
        assert mapped(archive, "image", 2 * IMAGES.nbytes) is None
        size = archive.information("image").file_size
        assert mapped(archive, "image", size) is None
        assert mapped(archive, "image", size - 1) is not None
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, np.arange(50))
    assert images.dtype == np.uint8 and not images.flags.writeable and not images.flags.owndata


@pytest.mark.parametrize(
    ("save", "images"),
    [
        (np.savez_compressed, IMAGES),
        (np.savez, np.asfortranarray(IMAGES)),
        (np.savez, IMAGES[:0]),
    ],
    ids=["compressed", "fortran", "empty"],
)
def test_what_cannot_be_mapped_is_left_to_be_read(tmp_path, save, images):
    save(tmp_path / "file.npz", images=images)
    with NpzFile(tmp_path / "file.npz") as archive:
        assert mapped(archive, "images", 0) is None


def test_python_objects_are_not_mapped(tmp_path):
    np.savez(tmp_path / "file.npz", images=np.array([None]))
    with NpzFile(tmp_path / "file.npz") as archive, pytest.raises(NpzError, match="pickle"):
        mapped(archive, "images", 0)


def test_a_member_that_is_not_all_there_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        np.save(tmp_path / "images.npy", IMAGES)
        archive.writestr("images.npy", (tmp_path / "images.npy").read_bytes()[:-1])
    with pytest.raises(data.DataError, match="'images' cannot be read: its header promises"):
        data.load_extra(str(tmp_path / "file.npz"), 3, (4, 4, 3), read_whole=0)


@pytest.mark.parametrize("read_whole", [0, IMAGES.nbytes * 2])
def test_extra_images_are_the_same_either_way(tmp_path, read_whole):
    np.savez(tmp_path / "extra.npz", images=IMAGES, labels=np.arange(50) % 3)
    images, labels = data.load_extra(str(tmp_path / "extra.npz"), 3, (4, 4, 3), read_whole)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, np.arange(50) % 3)
    assert images.flags.writeable == (read_whole > 0)


MEMORY = """
import pathlib, re, sys
from robustjax import data
def own():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1]) * 1024
before = own()
images, _ = data.load_extra(sys.argv[1], 10, (32, 32, 3), int(sys.argv[2]))
print(own() - before, images[::100].sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
def test_images_that_stay_in_the_file_take_no_memory_of_the_process(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20_000, 32, 32, 3), np.uint8)
    path = tmp_path / "extra.npz"
    np.savez(path, images=images)
    taken = {}
    for read_whole in (images.nbytes * 2, 0):
        command = [sys.executable, "-c", MEMORY, path, str(read_whole)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        taken[read_whole], total = map(int, output.split())
        assert total == images[::100].sum()
    assert taken[images.nbytes * 2] > 0.9 * images.nbytes
    assert taken[0] < 0.2 * images.nbytes


@given(st.integers(0, 5), st.integers(0, 5), st.data())
def test_rows_are_those_of_the_arrays_one_after_the_other(first, second, drawn):
    random = np.random.default_rng(first)
    parts = [random.integers(0, 256, (n, 2, 3, 1), np.uint8) for n in (first, second)]
    whole, joined = np.concatenate(parts), JoinedRows(*parts)
    assert joined.shape == whole.shape and len(joined) == len(whole)
    np.testing.assert_array_equal(joined, whole)
    if len(whole):
        rows = np.array(drawn.draw(st.lists(st.integers(0, len(whole) - 1), max_size=9)), np.int32)
        found = joined[rows]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, whole[rows])


def test_rows_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"uint8\[2, 2, 1\] .* uint8\[2, 2, 3\]"):
        JoinedRows(np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        JoinedRows(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.float32))
