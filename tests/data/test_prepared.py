"""Prepared folders: what is read from them, what the cache keeps, and what their errors say."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from robustjax import data
from robustjax.data import DataError
from robustjax.data.prepared import cache
from robustjax.data.prepared import reader as prepared

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def decoded(monkeypatch):
    """The splits that were decoded rather than taken from the cache."""
    calls = []
    decode = prepared._decode

    def count(name, found, split, image_size):
        calls.append(split)
        return decode(name, found, split, image_size)

    monkeypatch.setattr(prepared, "_decode", count)
    return calls


def load(folder, split="train"):
    return data.load("mnist", split, data_dir=str(folder), allow_prepare=False)


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert (one.num_classes, one.class_names) == (other.num_classes, other.class_names)


def test_reading_never_tries_the_network(folder, no_network):
    assert len(load(folder)) == 23
    assert not no_network


def test_the_second_time_nothing_is_decoded(folder, decoded):
    first = load(folder)
    same(load(folder), first)
    assert decoded == ["train"]
    load(folder, "test")
    assert decoded == ["train", "test"]


def test_a_changed_data_set_is_decoded_anew(folder, decoded, published):
    first = load(folder)
    shard = next(folder.glob("mnist/*/*train*record*"))
    os.utime(shard, ns=(1, 1))
    same(load(folder), first)
    assert decoded == ["train", "train"]
    # The test images under the name of the training images: never the cached arrays.
    info_path = next(folder.glob("mnist/*/dataset_info.json"))
    info = json.loads(info_path.read_text())
    for split in info["splits"]:
        split["shardLengths"] = ["9"]
    info_path.write_text(json.dumps(info))
    shutil.copy(next(folder.glob("mnist/*/*test*record*")), shard)
    changed = load(folder)
    same(changed, load(folder, "test"))
    assert len(changed) == 9


def test_two_folders_do_not_share_an_entry(folder, decoded, tmp_path):
    load(folder)
    load(shutil.copytree(folder, tmp_path / "other"))
    load(folder)
    assert decoded == ["train", "train"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "text", "directory"])
def test_a_damaged_entry_is_ignored(damage, folder, decoded, cache_directory):
    first = load(folder)
    (entry,) = cache_directory.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "truncate":
        del content[-100:]
    elif damage == "empty":
        content.clear()
    else:
        content = b"these are no arrays"
    entry.write_bytes(content)
    if damage == "directory":
        entry.unlink()
        entry.mkdir()
    same(load(folder), first)
    assert decoded == ["train", "train"]
    if damage != "directory":
        same(load(folder), first)
        assert decoded == ["train", "train"]


@pytest.mark.parametrize("stride", range(7))
def test_no_flipped_byte_changes_what_an_entry_gives(stride, cache_directory):
    arrays = {"images": np.arange(300, dtype=np.uint8), "labels": np.arange(4, dtype=np.int32)}
    cache.write("entry", "print", arrays)
    path = cache_directory / "entry.npz"
    content = path.read_bytes()
    for position in range(stride, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        read = cache.read("entry", "print")
        if read is not None:
            for key, values in read.items():
                np.testing.assert_array_equal(values, arrays[key])
                assert values.dtype == arrays[key].dtype


def test_a_cache_that_cannot_be_written_only_costs_time(folder, decoded, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ROBUSTJAX_CACHE", str(tmp_path / "file" / "cache"))
    same(load(folder), load(folder))
    assert decoded == ["train", "train"]


def test_a_full_disk_leaves_no_rubbish(monkeypatch, cache_directory):
    def full(*arguments, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    cache.write("entry", "print", {"a": np.zeros(3)})
    assert list(cache_directory.iterdir()) == []


def test_many_may_write_one_entry_at_once(cache_directory):
    def one(number):
        values = np.full(5000, number % 4)
        cache.write("entry", str(number % 4), {"values": values})
        read = cache.read("entry", str(number % 4))
        return read is None or np.array_equal(read["values"], values)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(80)))
    assert [path.name for path in cache_directory.iterdir()] == ["entry.npz"]


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("ROBUSTJAX_CACHE")
    assert cache.cache_directory() == tmp_path / "xdg" / "robustjax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_directory() == tmp_path / "home" / ".cache" / "robustjax"


def test_where_data_sets_lie_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", "/somewhere")
    assert data.default_data_dir() == "/somewhere"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.default_data_dir() == str(tmp_path / "tensorflow_datasets")


def test_damaged_records_are_reported(folder):
    shard = next(folder.glob("mnist/*/*train*record*"))
    content = shard.read_bytes()
    for damaged in (content[: len(content) // 2], b"", None):
        if damaged is None:
            shard.unlink()
        else:
            shard.write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"mnist.3\.0\.1 is damaged.*prepare the data set again"
        ):
            load(folder)


@pytest.mark.parametrize("content", ["", "{}", '{"fileFormat": "array_record"}', "[]"])
def test_a_damaged_description_is_reported(content, folder):
    next(folder.glob("mnist/*/dataset_info.json")).write_text(content)
    with pytest.raises(DataError, match=r"dataset_info\.json is damaged"):
        load(folder)


def test_a_file_system_that_nobody_knows_is_reported():
    with pytest.raises(DataError, match=r"data_dir=strange://place cannot be read"):
        data.load("mnist", "train", data_dir="strange://place")


def test_other_formats_and_unfinished_folders(folder, tmp_path):
    version = next(folder.glob("mnist/*"))
    info_path = version / "dataset_info.json"
    info = json.loads(info_path.read_text())
    info_path.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(DataError, match=r"3\.0\.1 \(tfrecord\).*only TensorFlow reads"):
        load(folder)
    info_path.unlink()
    with pytest.raises(DataError, match="not prepared there"):
        load(folder)
    version.rename(version.with_name("incomplete.3.0.1"))
    with pytest.raises(DataError, match="not prepared there"):
        load(folder)


def test_the_newest_version_is_read(folder):
    version = next(folder.glob("mnist/*"))
    shutil.copytree(version, version.with_name("3.0.10"))
    (version / "dataset_info.json").write_text("never read")
    assert prepared.find("mnist", str(folder)).directory.endswith("3.0.10")


def test_any_prepared_name_can_be_loaded(folder):
    (folder / "mnist").rename(folder / "mine")
    assert len(data.load("mine", "test", data_dir=str(folder))) == 9
    with pytest.raises(DataError, match=r"dataset=yours: accepted are digits, npz.*NAME/VERSION"):
        data.load("yours", "test", data_dir=str(folder))


def test_features_other_than_image_and_label_are_refused(folder):
    features_path = next(folder.glob("mnist/*/features.json"))
    features = json.loads(features_path.read_text())
    inner = features["featuresDict"]["features"]
    inner["picture"] = inner.pop("image")
    features_path.write_text(json.dumps(features))
    with pytest.raises(DataError, match='needs the features "image"'):
        load(folder)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    said = (
        r"tensorflow-datasets cannot be imported: pip install 'robustjax\[data\]', .*dataset=digits"
    )
    with pytest.raises(DataError, match=said):
        data.load("cifar10", "train", data_dir=str(tmp_path))


def test_cloud_paths_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if prepared.importlib.util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed and would ask the network")
    with pytest.raises(DataError, match=r"data_dir=gs://bucket/sets .*gcsfs"):
        data.load("cifar10", "train", data_dir="gs://bucket/sets")
    assert list(tmp_path.glob("gs*")) == []


def test_without_tfds_the_embedded_set_works_and_importing_does_nothing():
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow_datasets", "array_record", "PIL"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from absl import flags
before = set(flags.FLAGS)
from robustjax import data
from robustjax.cli import prepare_data
assert set(flags.FLAGS) == before
assert len(data.load("digits", "test")) == 360
try:
    data.load("cifar10", "test", data_dir="/nowhere")
except data.DataError as error:
    assert "pip install" in str(error), error
else:
    raise AssertionError
"""
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def rename_split(folder, old, new):
    """Gives a split of MNIST another name, as if tfds had prepared it so."""
    info_path = next(folder.glob("mnist/*/dataset_info.json"))
    info = json.loads(info_path.read_text())
    for split in info["splits"]:
        split["name"] = new if split["name"] == old else split["name"]
    info_path.write_text(json.dumps(info))
    for path in info_path.parent.glob(f"*{old}*record*"):
        path.rename(path.with_name(path.name.replace(old, new)))


def test_the_validation_split_is_the_test_set_where_there_is_no_other(folder):
    expected = load(folder, "test")
    rename_split(folder, "test", "validation")
    same(load(folder, "test"), expected)
    same(load(folder, "validation"), expected)


def test_the_middle_of_each_image_is_resized_and_kept_apart(folder, decoded):
    whole = load(folder).images
    for _ in range(2):
        small = data.load("mnist", "train", data_dir=str(folder), image_size=14).images
        assert small.shape == (len(whole), 14, 14, 1)
    assert decoded == ["train", "train"]
    # Up to what is cut off at the border, the mean of an image stays.
    np.testing.assert_allclose(small.mean((1, 2, 3)), whole.mean((1, 2, 3)), atol=6)
