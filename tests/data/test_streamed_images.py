"""Sets that stay in their files: the same images, orders and runs as of those in memory."""

import jax
import numpy as np
import pytest
from PIL import Image

from robustjax import data, training
from robustjax.config import TrainConfig
from robustjax.data import streamed_images
from robustjax.data.dataset import DataError
from robustjax.data.image_rows import JoinedRows
from robustjax.data.streamed_images import StreamedImages, require_memory

pytest.importorskip("grain")

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache_directory(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ROBUSTJAX_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def images(tmp_path):
    """A folder of two classes and two splits, of images of several sizes."""
    for split, count in (("train", 40), ("test", 6)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                size = (8, 8 + number % 3, 1)
                pixels = RANDOM.integers(0, 256, size).astype(np.uint8)[..., 0]
                Image.fromarray(pixels).save(tmp_path / split / name / f"{number:02d}.png")
    return tmp_path


def load(images, **options):
    return data.load("folder", "train", data_dir=str(images), image_size=8, **options)


def test_rows_are_those_of_the_array(images):
    array, streamed = load(images).images, load(images, stream=True).images
    assert isinstance(streamed, StreamedImages)
    assert (streamed.shape, streamed.dtype, streamed.nbytes) == (
        array.shape, array.dtype, array.nbytes,
    )  # fmt: skip
    rows = RANDOM.permutation(80)[:30]
    np.testing.assert_array_equal(streamed[rows], array[rows])
    np.testing.assert_array_equal(streamed[np.array([3, 3, 0])], array[[3, 3, 0]])
    np.testing.assert_array_equal(streamed[5:9], array[5:9])
    assert streamed[np.zeros(0, np.int64)].shape == (0, 8, 8, 1)
    mask = RANDOM.random(80) < 0.5
    np.testing.assert_array_equal(np.asarray(streamed.select(mask)), array[mask])
    joined = JoinedRows(streamed, array)
    np.testing.assert_array_equal(joined[np.array([79, 80])], array[[79, 0]])


def test_some_of_some_are_those_of_the_array(images):
    array, streamed = load(images).images, load(images, stream=True).images
    some, fewer = RANDOM.permutation(80)[:20], RANDOM.random(20) < 0.5
    found = streamed.select(some).select(fewer)
    np.testing.assert_array_equal(found[:], array[some][fewer])
    floats = np.asarray(found, np.float32)
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, array[some][fewer])
    with pytest.raises(ValueError, match="a copy is needed"):
        np.array(found, copy=False)


def test_nothing_is_read_before_it_is_wanted(images):
    whole = load(images, stream=True)
    path = images / "train" / "b" / "39.png"
    path.write_text("no image any more")
    train, held = data.hold_out(data.only_classes(whole, (1, 0)), 4)
    assert isinstance(train.images, StreamedImages) and isinstance(held.images, np.ndarray)
    assert len(data.first(whole, 10)) == 10
    with pytest.raises(DataError, match="39.png is no such image"):
        whole.images[np.array([0, 79])]


def test_images_of_another_size_are_named(images):
    with pytest.raises(ValueError, match="has 8x9 pixels, and the first has 8x8; add"):
        data.load("folder", "train", data_dir=str(images), stream=True).images[:]
    some = data.load("folder", "train", data_dir=str(images), stream=True).images
    with pytest.raises(ValueError, match="dataset=folder: image 2 has 8x9"):
        some.select(np.array([3, 0, 2]))[1:]


def config(images, workdir, **changed):
    options = {
        "method": "natural", "model": "digits_cnn", "dataset": "folder", "data_dir": str(images),
        "image_size": 8, "epsilon": 0.1, "epochs": 2, "batch_size": 20, "holdout": 8,
        "learning_rate": 0.05, "schedule": "constant", "measure_steps": 1,
        "measure_examples": 16, "workdir": str(workdir),
    }  # fmt: skip
    return TrainConfig(**(options | changed))


def test_a_run_is_the_same_streamed_or_in_memory_and_resumes_as_the_other(images, tmp_path):
    unbroken = training.train(config(images, tmp_path / "memory"), stream=None)
    training.train(config(images, tmp_path / "run", epochs=1, stream=True), stream=None)
    resumed = training.train(config(images, tmp_path / "run", stream=True), stream=None)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)
    longer = training.train(config(images, tmp_path / "run", epochs=3), stream=None)
    assert longer.finished and len(longer.rows) == 1


def test_a_prepared_set_is_streamed(folder):
    """MNIST as tfds prepares it; the second time the labels come from the cache."""

    def mnist(**options):
        return data.load("mnist", "train", data_dir=str(folder), **options)

    array = mnist()
    for _ in range(2):
        streamed = mnist(stream=True)
        np.testing.assert_array_equal(streamed.labels, array.labels)
        np.testing.assert_array_equal(streamed.images[np.array([7, 2])], array.images[[7, 2]])
    assert mnist(stream=True, image_size=14).images.shape == (len(array), 14, 14, 1)


def test_arrays_and_joined_splits_are_not_streamed(images):
    with pytest.raises(DataError, match="dataset=digits: stream=True reads image files"):
        data.load("digits", "train", stream=True)
    with pytest.raises(DataError, match="one split at a time"):
        data.load("folder", "train+test", data_dir=str(images), stream=True)


def test_without_grain_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(streamed_images.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install .robustjax\[stream\]"):
        StreamedImages([], lambda record: record, (8, 8, 3))


def test_more_than_the_memory_is_refused_before_it_is_decoded(images, monkeypatch):
    monkeypatch.setattr(streamed_images, "_memory", lambda: 5000)
    with pytest.raises(ValueError, match="80 images of 8x8x1 need .* GiB.*stream=True"):
        load(images)
    assert load(images, stream=True).images[:2].shape == (2, 8, 8, 1)
    monkeypatch.setattr(streamed_images, "_memory", lambda: 80 * 8 * 8)
    assert len(load(images)) == 80
    monkeypatch.setattr(streamed_images, "_memory", lambda: 0)
    require_memory("folder", 10**9, (224, 224, 3))
