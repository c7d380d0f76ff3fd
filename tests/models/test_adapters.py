"""Networks that are no linen modules of ours: NNX, Equinox, and linen with other arguments."""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from robustjax import models, testing
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation.trained import load_network
from robustjax.training import train


class NNXNetwork(nnx.Module):
    """A convolution with batch norm and dropout, and a dense layer."""

    def __init__(self, num_classes, rngs):
        self.layers = nnx.List(
            [nnx.Conv(1, 8, (3, 3), rngs=rngs), nnx.BatchNorm(8, momentum=0.9, rngs=rngs)]
        )
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.dense = nnx.Linear(128, num_classes, rngs=rngs)

    def __call__(self, images):
        hidden = images
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = nn.max_pool(nn.relu(hidden), (2, 2), (2, 2))
        return self.dense(self.dropout(hidden.reshape(len(images), -1)))


def of_nnx(num_classes=10):
    return models.from_nnx(lambda rngs: NNXNetwork(num_classes, rngs))


class LinenNetwork(nn.Module):
    """The same with arguments of its own."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, deterministic, running):
        hidden = nn.Conv(8, (3, 3))(images)
        hidden = nn.relu(nn.BatchNorm(use_running_average=running, momentum=0.9)(hidden))
        hidden = nn.max_pool(hidden, (2, 2), (2, 2)).reshape(len(images), -1)
        return nn.Dense(self.num_classes)(nn.Dropout(0.2, deterministic=deterministic)(hidden))


def in_modes(train, batch_statistics):
    return {"deterministic": not train, "running": not batch_statistics}


def of_linen(num_classes=10):
    return models.from_linen(LinenNetwork(num_classes), in_modes)


def of_equinox(num_classes=10):
    eqx = pytest.importorskip("equinox")

    class EquinoxNetwork(eqx.Module):
        """The same for one image."""

        convolution: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        dropout: eqx.nn.Dropout
        dense: eqx.nn.Linear

        def __init__(self, key):
            first, second = jax.random.split(key)
            self.convolution = eqx.nn.Conv2d(1, 8, 3, padding=1, key=first)
            self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch", momentum=0.9)
            self.dropout = eqx.nn.Dropout(0.2)
            self.dense = eqx.nn.Linear(128, num_classes, key=second)

        def __call__(self, image, state, *, key=None):
            hidden, state = self.norm(self.convolution(image), state)
            hidden = jax.nn.relu(hidden).reshape(8, 4, 2, 4, 2).max((2, 4)).reshape(-1)
            return self.dense(self.dropout(hidden, key=key)), state

    return models.from_equinox(eqx.nn.make_with_state(EquinoxNetwork))


EVERY = {"linen": of_linen, "nnx": of_nnx, "equinox": of_equinox}
every = pytest.mark.parametrize("build", EVERY.values(), ids=list(EVERY))


@every
def test_it_keeps_the_rules_of_networks(build):
    if build is of_equinox:
        pytest.importorskip("equinox")
    testing.check_model(build, num_classes=10)


class TwoDropouts(nnx.Module):
    """Two layers of dropout, side by side."""

    def __init__(self, rngs):
        self.first, self.second = nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images):
        rows = images.reshape(len(images), -1)
        return jnp.concatenate([self.first(rows), self.second(rows)], axis=1)


def test_each_layer_of_nnx_draws_for_itself_and_the_same_from_the_same_key():
    model, images = models.from_nnx(TwoDropouts), jnp.ones((4, 8, 8, 1))
    variables = model.init(jax.random.key(0), images)

    def masks(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.split(np.asarray(model.apply(variables, images, train=True, rngs=rngs)), 2, 1)

    first, second = masks(1)
    assert set(np.unique(first)) == set(np.unique(second)) == {0, 2}
    assert np.any(first != second)
    np.testing.assert_array_equal(masks(1), [first, second])
    assert np.any(masks(2)[0] != first)


@every
def test_batch_norm_and_dropout_are_told_apart(build):
    network = build()
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(16, 8, 8, 1)), jnp.float32)
    variables = network.init(jax.random.key(0), images)

    def logits(**options):
        found, moved = network.apply(variables, images, mutable=["batch_stats"], **options)
        return np.asarray(found), moved["batch_stats"]

    one, other = ({"rngs": {"dropout": jax.random.key(seed)}} for seed in (1, 2))
    trained, moved = logits(train=True, **one)
    assert not np.array_equal(trained, logits(train=True, **other)[0])
    np.testing.assert_array_equal(trained, logits(train=True, **one)[0])
    # Statistics of the batch without dropout, as some attacks take them.
    attacked, moved_too = logits(train=False, batch_statistics=True, **one)
    np.testing.assert_array_equal(attacked, logits(batch_statistics=True, **other)[0])
    assert not np.allclose(attacked, logits(train=False)[0])
    for first, second in zip(jax.tree.leaves(moved), jax.tree.leaves(moved_too), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    # 0.9 of the running statistics, 0.1 of the batch's.
    after = network.apply({**variables, "batch_stats": moved}, images)
    assert not np.allclose(after, logits(train=False)[0])


@pytest.mark.parametrize(
    "build",
    [pytest.param(of_linen, marks=pytest.mark.slow), of_nnx, of_equinox],
    ids=list(EVERY),
)
def test_it_trains_two_epochs_on_digits_and_is_read_back(build, tmp_path):
    config = TrainConfig(
        dataset="digits", augmentation="none", epsilon=0.05, steps=2, epochs=2, batch_size=64,
        learning_rate=0.1, train_examples=256, holdout=0, measure_steps=1, measure_examples=64,
        devices=1, workdir=str(tmp_path / "run"),
    )  # fmt: skip
    network = build()
    result = train(config, None, model=network)
    assert result.rows[1]["loss"] < result.rows[0]["loss"]
    read = load_network(config.workdir, "latest", model=network)
    images = jnp.zeros((3, 8, 8, 1))
    expected = network.apply(result.state.variables(), images)
    np.testing.assert_allclose(read.logits_fn(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@every
def test_its_attack_may_take_the_statistics_of_the_batch(build, tmp_path):
    config = TrainConfig(
        dataset="digits", augmentation="none", epsilon=0.05, steps=2, epochs=1, batch_size=64,
        train_examples=128, holdout=0, measure_steps=1, measure_examples=64, devices=2,
        attack_batch_norm="train", method="trades", workdir=str(tmp_path / "run"),
    )  # fmt: skip
    result = train(config, None, model=build())
    assert result.finished and np.isfinite(result.rows[0]["loss"])


def test_the_same_numbers_give_the_same_logits():
    """A dense layer of NNX, against its formula."""

    class Dense(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(4, 3, rngs=rngs)

        def __call__(self, images):
            return self.layer(images.reshape(len(images), -1))

    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(4, 3)), random.normal(size=3)
    images = random.uniform(size=(5, 2, 2, 1))
    variables = {"params": {"layer.kernel": np.float32(kernel), "layer.bias": np.float32(bias)}}
    found = models.from_nnx(Dense).apply(variables, jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(found, images.reshape(5, -1) @ kernel + bias, rtol=1e-5, atol=1e-6)


def test_variables_of_another_kind_are_refused():
    class Counting(nnx.Module):
        def __init__(self, rngs):
            self.count = nnx.Cache(jnp.zeros(()))

    with pytest.raises(UserError, match="its variable=count: accepted are nnx.Param and nnx.Batch"):
        models.from_nnx(Counting).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_a_missing_equinox_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(UserError, match="needs the package equinox, .* pip install equinox"):
        models.from_equinox(lambda key: None)
