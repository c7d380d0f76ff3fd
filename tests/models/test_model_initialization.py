"""The distributions that weights are drawn from."""

from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import models


def draw(name, shape, *paths):
    """Draws the layers of a network at `paths`; the compiler leaves the others out."""
    model = models.create(name)

    def layers(key):
        params = model.init(key, jnp.zeros((1, *shape)))["params"]
        return [reduce(dict.__getitem__, path.split("/"), params) for path in paths]

    # This generator compiles in a fraction of the default's time.
    return jax.jit(layers)(jax.random.key(0, impl="unsafe_rbg"))


def assert_normal(kernel, variance):
    kernel = np.asarray(kernel, np.float64).ravel()
    error = 5 * np.sqrt(variance / kernel.size)
    assert abs(kernel.mean()) < error
    assert abs(kernel.var() / variance - 1) < 5 * np.sqrt(2 / kernel.size)
    # A uniform ends at 1.7 deviations, a normal cut at two (and rescaled, as JAX does) at 2.3.
    assert np.abs(kernel).max() > 2.3 * np.sqrt(variance)


def assert_uniform(values, limit):
    values = np.asarray(values, np.float64).ravel()
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert abs(values.var() / (limit**2 / 3) - 1) < 6 / np.sqrt(values.size)
    assert abs(values.mean()) < 5 * limit / np.sqrt(3 * values.size)


def test_wide_resnet():
    stem, conv, shortcut, norm, head = draw(
        "wide_resnet_10_2",
        (8, 8, 3),
        "conv1",
        "block2_layer_0/conv1",
        "block2_layer_0/convShortcut",
        "bn1",
        "fc",
    )
    assert_normal(stem["kernel"], 2 / (9 * 16))
    assert_normal(conv["kernel"], 2 / (9 * 64))
    assert_normal(shortcut["kernel"], 2 / 64)
    assert_uniform(head["kernel"], 1 / np.sqrt(128))
    assert not head["bias"].any()
    assert set(stem) == {"kernel"}
    assert (norm["scale"] == 1).all() and not norm["bias"].any()


def test_resnet_is_initialised_as_pytorch_does():
    stem, conv, shortcut, head = draw(
        "resnet_8", (8, 8, 3), "conv1", "layer2_0/conv1", "layer2_0/shortcut_0", "linear"
    )
    assert_uniform(stem["kernel"], 1 / np.sqrt(27))
    assert_uniform(conv["kernel"], 1 / np.sqrt(9 * 64))
    assert_uniform(shortcut["kernel"], 1 / np.sqrt(64))
    assert_uniform(head["kernel"], 1 / np.sqrt(256))
    assert head["bias"].any() and np.abs(head["bias"]).max() <= 1 / 16


def test_cifar_resnet_is_kaiming_normal():
    conv, head = draw("cifar_resnet_8", (8, 8, 3), "layer3_0/conv1", "linear")
    assert_normal(conv["kernel"], 2 / (9 * 32))
    assert_normal(head["kernel"], 2 / 64)
    assert np.abs(head["bias"]).max() <= 1 / 8


def test_small_cnn_has_a_head_of_zeros():
    conv, dense, head = draw("small_cnn", (28, 28, 1), "conv4", "fc1", "fc3")
    assert_normal(conv["kernel"], 2 / (9 * 64))
    assert not conv["bias"].any()
    assert_uniform(dense["kernel"], 1 / np.sqrt(1024))
    assert_uniform(dense["bias"], 1 / np.sqrt(1024))
    assert not head["kernel"].any() and not head["bias"].any()

    model = models.create("small_cnn")
    images = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes["params"])
    apply = jax.jit(lambda head: model.apply({"params": {**ones, "fc3": head}}, images))
    np.testing.assert_array_equal(apply(head), np.zeros((1, 10)))
    assert apply(ones["fc3"]).all()


def test_convolution_biases_are_drawn_by_fan_in():
    second, third = draw("fat_small_cnn", (8, 8, 3), "block2_conv1", "block3_conv1")
    assert_uniform(second["bias"], 1 / np.sqrt(9 * 64))
    assert_uniform(third["kernel"], 1 / np.sqrt(9 * 128))


def test_madry_networks():
    conv, head = draw("madry_mnist_cnn", (28, 28, 1), "conv2", "fc2")
    kernel = np.asarray(conv["kernel"])
    assert np.abs(kernel).max() <= 0.2
    # The variance of a standard normal cut at two deviations is 0.774.
    assert abs(kernel.var() / 0.01 - 0.774) < 0.03
    assert np.allclose(conv["bias"], 0.1) and np.allclose(head["bias"], 0.1)
    conv, head = draw("madry_simple_resnet", (8, 8, 3), "unit_3_0/conv1", "logit")
    assert_normal(conv["kernel"], 2 / (9 * 64))
    assert_uniform(head["kernel"], np.sqrt(3 / 64))
    assert not head["bias"].any()


def test_initialize_is_a_function_of_the_key():
    model = models.create("digits_cnn")
    keys = [jax.random.key(seed, impl="unsafe_rbg") for seed in (0, 0, 1)]
    first, again, other = (models.initialize(model, key, (8, 8, 1)) for key in keys)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, expected)
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
    assert all((a == b).all() for a, b in pairs)
    kernels = [tree["params"]["conv1"]["kernel"] for tree in (first, other)]
    assert (kernels[0] != kernels[1]).all()
