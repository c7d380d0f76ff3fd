"""Training from Python: objects in the place of names, and a callback an epoch."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from robustjax import data, methods, models
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation.trained import load_network
from robustjax.training import train

STANDARD = methods.create("standard")
MINE = methods.Method("mine", STANDARD.perturb, STANDARD.outer)


class Layer(nn.Module):
    """One dense layer."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


def dots(split, data_dir=None):
    """The place of a bright pixel among four."""
    random = np.random.default_rng({"train": 0, "test": 1}[split])
    labels = random.integers(0, 4, 96).astype(np.int32)
    images = np.eye(4, dtype=np.float32)[labels].reshape(-1, 2, 2, 1)
    return data.Dataset("dots", 0.3 + 0.4 * images, labels, 4)


def options(tmp_path, **others):
    return TrainConfig(
        **{
            "epsilon": 0.1, "steps": 2, "epochs": 2, "batch_size": 32, "holdout": 0,
            "learning_rate": 1.0, "measure_steps": 1, "measure_examples": 32, "devices": 1,
            "workdir": str(tmp_path / "run"), **others,
        }
    )  # fmt: skip


def test_a_network_a_method_and_images_that_are_objects(tmp_path):
    config, seen = options(tmp_path), []
    result = train(config, None, seen.append, model=Layer, method=MINE, dataset=dots("train"))
    assert seen == result.rows and [row["epoch"] for row in seen] == [1, 2]
    flags = (tmp_path / "run" / "flags.txt").read_text()
    assert {"--model=<Layer>", "--method=<mine>", "--dataset=<dots>"} <= set(flags.splitlines())

    network = load_network(config.workdir, dataset=dots("test"))
    logits = network.logits_fn(data.to_float(network.test_set.images))
    assert np.mean(np.argmax(logits, -1) == network.test_set.labels) > 0.5

    longer = options(tmp_path, epochs=3)
    again = train(longer, None, model=Layer, method=MINE, dataset=dots("train"))
    assert [row["epoch"] for row in again.rows] == [3]
    assert not any("<" in name for name in (*models.names(), *methods.names()))


def test_functions_are_objects_too(tmp_path):
    def create(*, weight=1.0):
        assert weight == 2
        return MINE

    config = options(tmp_path, set=("weight=2",), epochs=1)
    train(config, None, model=Layer(4), method=create, dataset=dots)
    network = load_network(config.workdir)
    assert len(network.test_set) == 96 and network.model == Layer(4)


def test_by_name_and_as_an_object_it_is_the_same_training(tmp_path):
    named = options(tmp_path, dataset="digits", model="digits_cnn", epochs=1, train_examples=64)
    given = options(tmp_path, train_examples=64, epochs=1, workdir=str(tmp_path / "given"))
    one = train(named, None)
    other = train(
        given,
        None,
        model=models.create("digits_cnn"),
        method=STANDARD,
        dataset=data.load("digits", "train"),
    )
    for first, second in zip(
        jax.tree.leaves(one.state.params), jax.tree.leaves(other.state.params), strict=True
    ):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": 3}, "model=3: accepted are networks, and functions"),
        ({"method": "trades"}, "method=trades: accepted are values of methods.Method"),
        ({"dataset": [1]}, "dataset=.*accepted are a data.Dataset, a dictionary"),
        ({"model": Layer(7), "dataset": dots}, r"gives \[1, 7\] for one image; accepted is \[1, 4"),
        ({"model": Layer, "dataset": {"test": dots("test")}}, "no split 'train' was given, but te"),
    ],
)
def test_what_is_no_such_object_is_said_before_anything_is_written(given, said, tmp_path):
    with pytest.raises(UserError, match=said):
        train(options(tmp_path), None, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "create"),
    [
        ("model", models.create),
        ("method", methods.create),
        ("dataset", lambda name: data.load(name, "t")),
    ],
)
def test_the_name_of_an_object_does_not_bring_it_back(name, create):
    with pytest.raises(UserError, match=f"{name}=<Absent> was given in Python.* give it again"):
        create("<Absent>")
