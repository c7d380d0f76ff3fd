"""The real MNIST and CIFAR-10, where they lie prepared: counts, published statistics, speed."""

import time

import numpy as np
import pytest

from robustjax import data

pytest.importorskip("tensorflow_datasets")


def load(name, split, directory):
    if not (directory / name).is_dir():
        pytest.skip(f"{name} is not prepared in {directory}")
    return data.load(name, split, data_dir=str(directory), allow_prepare=False)


def test_cifar10_test_set(data_dir):
    test = load("cifar10", "test", data_dir)
    assert test.images.shape == (10000, 32, 32, 3)
    assert np.all(np.bincount(test.labels) == 1000)
    assert test.class_names[3] == "cat"
    # The order in which tfds shuffles the test set.
    assert test.labels[:10].tolist() == [7, 0, 6, 9, 5, 1, 7, 0, 3, 2]
    means = test.images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4942, 0.4851, 0.4504], atol=1e-4)


def test_mnist_test_set(data_dir):
    test = load("mnist", "test", data_dir)
    assert test.images.shape == (10000, 28, 28, 1)
    published = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test.labels).tolist() == published
    assert test.images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)


@pytest.mark.slow
def test_cifar10_training_set(data_dir):
    train = load("cifar10", "train", data_dir)
    assert train.images.shape == (50000, 32, 32, 3)
    assert np.all(np.bincount(train.labels) == 5000)
    pixels = train.images.reshape(-1, 3)
    np.testing.assert_allclose(pixels.mean(0) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)
    np.testing.assert_allclose(pixels.std(0) / 255, [0.2470, 0.2435, 0.2616], atol=1e-4)
    start = time.monotonic()
    again = load("cifar10", "train", data_dir)
    assert time.monotonic() - start < 2
    np.testing.assert_array_equal(again.images, train.images)
    rest, held = data.hold_out(train, data.default_holdout(len(train)))
    assert len(rest) == 49000
    assert np.all(np.bincount(held.labels) == 100)


@pytest.mark.slow
def test_mnist_training_set(data_dir):
    train = load("mnist", "train", data_dir)
    assert train.images.shape == (60000, 28, 28, 1)
    published = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(train.labels).tolist() == published
    assert train.images.mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert train.images.std() / 255 == pytest.approx(0.3081, abs=1e-4)
