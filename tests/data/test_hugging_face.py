"""Data sets in the files of Hugging Face, written by pyarrow as `datasets` writes them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from robustjax import data
from robustjax.data.dataset import DataError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

RANDOM = np.random.default_rng(0)
FEATURES = {
    "info": {"features": {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}}
}


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def table_of(count, labels=None, image="image", label="label", named=True, shape=(6, 6, 3)):
    images = RANDOM.integers(0, 256, (count, *shape)).astype(np.uint8)
    labels = np.arange(count) % 2 if labels is None else labels
    rows = [{"bytes": png(pixels), "path": None} for pixels in images]
    table = pa.table({image: rows, label: pa.array(labels), "other": ["x"] * count})
    if named:
        table = table.replace_schema_metadata({b"huggingface": json.dumps(FEATURES).encode()})
    return table, images


@pytest.fixture
def hub(tmp_path):
    """As the hub has it: two files of the training split, one of the validation split."""
    (tmp_path / "data").mkdir()
    parts = []
    for number in range(2):
        table, images = table_of(4)
        parquet.write_table(table, tmp_path / "data" / f"train-0000{number}-of-00002.parquet")
        parts.append(images)
    table, test = table_of(3)
    parquet.write_table(table, tmp_path / "data" / "validation-00000-of-00001.parquet")
    return tmp_path, np.concatenate(parts), test


def load(folder, split="train", **options):
    return data.load("huggingface", split, data_dir=str(folder), **options)


def test_parquet_files_of_the_hub(hub):
    folder, train, test = hub
    for _ in range(2):  # The second time from the cache.
        found = load(folder)
        np.testing.assert_array_equal(found.images, train)
        np.testing.assert_array_equal(found.labels, [0, 1, 0, 1, 0, 1, 0, 1])
        assert found.class_names == ("cat", "dog", "eel") and found.num_classes == 3
    np.testing.assert_array_equal(load(folder, "test").images, test)
    assert load(folder / "data", image_size=3).images.shape == (8, 3, 3, 3)
    with pytest.raises(DataError, match="has no split 'extra', but train, validation"):
        load(folder, "extra")


def test_arrow_files_of_save_to_disk(tmp_path):
    """CIFAR's names of the columns, none of the classes: the largest label of all splits counts."""
    expected = {}
    for split, labels in (("train", [0, 1, 1]), ("test", [4, 0, 0])):
        (tmp_path / split).mkdir()
        table, expected[split] = table_of(3, labels, "img", "fine_label", named=False, shape=(5, 5))
        path = tmp_path / split / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    for split, images in expected.items():
        found = load(tmp_path, split)
        np.testing.assert_array_equal(found.images, images[..., None])
        assert found.num_classes == 5 and found.class_names == ()


def test_a_file_that_changes_is_read_anew(hub):
    folder, train, _ = hub
    load(folder)
    table, images = table_of(5)
    parquet.write_table(table, folder / "data" / "train-00001-of-00002.parquet")
    np.testing.assert_array_equal(load(folder).images, np.concatenate([train[:4], images]))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"label": pa.array([0, -1, 1, 0])}, r"labels are -1\.\.1; accepted are"),
        ({"label": pa.array([0, None, 1, 0])}, "accepted are integers, no nulls"),
        ({"label": pa.array(["a", "b", "a", "b"])}, "the labels are string"),
        ({"image": [{"bytes": None, "path": "a.png"}] * 4}, "row 0 holds no bytes of an image"),
        ({"image": [{"bytes": b"no image", "path": None}] * 4}, "row 0 is no such image"),
    ],
)
def test_what_is_not_as_described_is_named(tmp_path, column, message):
    table, _ = table_of(4)
    for name, values in column.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, values if isinstance(values, pa.Array) else [values])
    parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_absent_columns_damaged_files_and_several_configurations(hub):
    folder, _, _ = hub
    path = folder / "data" / "train-00001-of-00002.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(DataError, match="train-00001-of-00002.parquet cannot be read"):
        load(folder)
    parquet.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(DataError, match="has no column label or labels or fine_label"):
        load(folder)
    (folder / "other").mkdir()
    (folder / "other" / "train.parquet").write_bytes(whole)
    with pytest.raises(DataError, match="parquet files in 2 folders; name one of them"):
        load(folder)
    with pytest.raises(DataError, match="no such folder"):
        load(folder / "absent")
    with pytest.raises(DataError, match="add data_dir=DIR"):
        data.load("huggingface", "train")
