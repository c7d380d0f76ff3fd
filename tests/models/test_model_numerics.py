"""Whole networks against forward passes written in float64 NumPy from the papers' descriptions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models
from robustjax.models.cifar_resnet import subsample_and_pad
from robustjax.models.layers import Layers


def convolve(x, kernel, stride=1, padding=((1, 1), (1, 1)), bias=None):
    """Cross-correlates one window at a time, as the definition says."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    size = kernel.shape[0]
    height = (x.shape[1] - size) // stride + 1
    width = (x.shape[2] - size) // stride + 1
    out = np.empty((x.shape[0], height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.tensordot(window, kernel, axes=3)
    return out if bias is None else out + bias


NO_PADDING = ((0, 0), (0, 0))


def relu(x):
    return np.maximum(x, 0)


def leaky_relu(x):
    return np.where(x < 0, 0.1 * x, x)


def pool(x, reduce):
    n, h, w, c = x.shape
    return reduce(x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c), axis=(2, 4))


def randomize(tree, seed):
    """Gives every variable a value that matters: no zero bias, no unit variance."""
    generator = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        scale = 0.3 if name != "kernel" else 1 / np.sqrt(np.prod(leaf.shape[:-1]))
        return (scale * generator.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)


class Weights:
    """Reads variables in float64 and applies a layer of them by its name."""

    def __init__(self, variables, prefix=(), epsilon=1e-5):
        as_double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        self.params, self.stats = as_double["params"], as_double.get("batch_stats", {})
        for name in prefix:
            self.params, self.stats = self.params[name], self.stats[name]
        self.variables, self.epsilon = variables, epsilon

    def inside(self, name):
        return Weights(self.variables, (name,), self.epsilon)

    def conv(self, name, x, **options):
        layer = self.params[name]
        return convolve(x, layer["kernel"], bias=layer.get("bias"), **options)

    def norm(self, name, x):
        stats, layer = self.stats[name], self.params[name]
        scaled = (x - stats["mean"]) / np.sqrt(stats["var"] + self.epsilon)
        return scaled * layer["scale"] + layer["bias"]

    def dense(self, name, x):
        return x @ self.params[name]["kernel"] + self.params[name]["bias"]


def wide_resnet_10_1(weights, x):
    x = weights.conv("conv1", x)
    for group, stride in ((1, 1), (2, 2), (3, 2)):
        block = weights.inside(f"block{group}_layer_0")
        activated = relu(block.norm("bn1", x))
        hidden = block.conv("conv1", activated, stride=stride)
        hidden = block.conv("conv2", relu(block.norm("bn2", hidden)))
        if group > 1:
            x = block.conv("convShortcut", activated, stride=stride, padding=NO_PADDING)
        x = x + hidden
    return weights.dense("fc", relu(weights.norm("bn1", x)).mean(axis=(1, 2)))


def resnet_8(weights, x):
    x = relu(weights.norm("bn1", weights.conv("conv1", x)))
    for group, stride in ((1, 1), (2, 2), (3, 2)):
        block = weights.inside(f"layer{group}_0")
        hidden = relu(block.norm("bn1", block.conv("conv1", x, stride=stride)))
        hidden = block.norm("bn2", block.conv("conv2", hidden))
        if group > 1:
            x = block.conv("shortcut_0", x, stride=stride, padding=NO_PADDING)
            x = block.norm("shortcut_1", x)
        x = relu(x + hidden)
    return weights.dense("linear", x.mean(axis=(1, 2)))


def preact_resnet_18(weights, x):
    x = weights.conv("conv1", x)
    for group in (1, 2, 3, 4):
        for index in (0, 1):
            stride = 2 if group > 1 and index == 0 else 1
            block = weights.inside(f"layer{group}_{index}")
            activated = relu(block.norm("bn1", x))
            hidden = block.conv("conv1", activated, stride=stride)
            hidden = block.conv("conv2", relu(block.norm("bn2", hidden)))
            if stride == 2:
                x = block.conv("shortcut_0", activated, stride=2, padding=NO_PADDING)
            x = x + hidden
    return weights.dense("linear", relu(weights.norm("bn", x)).mean(axis=(1, 2)))


def cifar_resnet_8(weights, x):
    x = relu(weights.norm("bn1", weights.conv("conv1", x)))
    for group, stride in ((1, 1), (2, 2), (3, 2)):
        block = weights.inside(f"layer{group}_0")
        hidden = relu(block.norm("bn1", block.conv("conv1", x, stride=stride)))
        hidden = block.norm("bn2", block.conv("conv2", hidden))
        if group > 1:
            smaller = np.zeros_like(hidden)
            quarter = hidden.shape[-1] // 4
            smaller[..., quarter:-quarter] = x[:, ::2, ::2]
            x = smaller
        x = relu(x + hidden)
    return weights.dense("linear", x.mean(axis=(1, 2)))


def madry_simple_resnet(weights, x):
    weights = Weights(weights.variables, epsilon=1e-3)
    x = np.stack([(image - image.mean()) / image.std() for image in x])
    x = weights.conv("init_conv", x)
    for group in (1, 2, 3):
        for index in range(5):
            halves = group > 1 and index == 0
            unit = weights.inside(f"unit_{group}_{index}")
            hidden = leaky_relu(unit.norm("init_bn", x))
            if group == 1 and index == 0:
                x = hidden
            padding = ((0, 1), (0, 1)) if halves else ((1, 1), (1, 1))
            hidden = unit.conv("conv1", hidden, stride=2 if halves else 1, padding=padding)
            hidden = unit.conv("conv2", leaky_relu(unit.norm("bn2", hidden)))
            if halves:
                extra = np.zeros((*hidden.shape[:3], x.shape[-1] // 2))
                x = np.concatenate([extra, pool(x, np.mean), extra], axis=-1)
            x = x + hidden
    return weights.dense("logit", leaky_relu(weights.norm("final_bn", x)).mean(axis=(1, 2)))


def small_cnn(weights, x):
    for pair in ((1, 2), (3, 4)):
        for index in pair:
            x = relu(weights.conv(f"conv{index}", x, padding=NO_PADDING))
        x = pool(x, np.max)
    x = relu(weights.dense("fc1", x.reshape(len(x), -1)))
    return weights.dense("fc3", relu(weights.dense("fc2", x)))


def fat_small_cnn(weights, x):
    for block in (1, 2, 3):
        for index in (1, 2):
            x = weights.conv(f"block{block}_conv{index}", x)
            x = relu(weights.norm(f"batchnorm{block}_{index}", x))
        x = pool(x, np.max)
    return weights.dense("fc2", relu(weights.dense("fc1", x.reshape(len(x), -1))))


def tutorial_cnn(weights, x):
    for index in (1, 2):
        x = pool(relu(weights.conv(f"conv{index}", x, padding=NO_PADDING)), np.max)
    x = relu(weights.dense("fc1", x.reshape(len(x), -1)))
    return weights.dense("fc3", relu(weights.dense("fc2", x)))


def sense_mnist_cnn_3(weights, x):
    for index in (1, 2):
        x = pool(relu(weights.conv(f"conv{index}", x, padding=((2, 2), (2, 2)))), np.max)
    return weights.dense("fc2", relu(weights.dense("fc1", x.reshape(len(x), -1))))


def digits_cnn(weights, x):
    for index, stride in ((1, 1), (2, 2), (3, 2)):
        x = relu(weights.conv(f"conv{index}", x, stride=stride))
    return weights.dense("fc", x.reshape(len(x), -1))


@pytest.mark.parametrize(
    ("oracle", "shape"),
    [
        (wide_resnet_10_1, (8, 8, 3)),
        (wide_resnet_10_1, (7, 5, 3)),
        (resnet_8, (8, 8, 3)),
        (preact_resnet_18, (8, 8, 3)),
        (cifar_resnet_8, (8, 8, 3)),
        (cifar_resnet_8, (7, 5, 1)),
        (madry_simple_resnet, (8, 8, 3)),
        (small_cnn, (18, 17, 1)),
        (fat_small_cnn, (10, 8, 3)),
        (tutorial_cnn, (16, 18, 3)),
        (sense_mnist_cnn_3, (9, 8, 1)),
        (digits_cnn, (8, 8, 1)),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "x".join(map(str, value)),
)
def test_network_matches_its_description(oracle, shape):
    model = models.create(oracle.__name__, num_classes=5)
    images = np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)
    variables = randomize(jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images)), 1)
    expected = oracle(Weights(variables), images.astype(np.float64))
    actual = jax.jit(model.apply)(variables, images)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the oracle does not depend on the image"
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("size", [6, 7])
def test_stride_two_pads_one_zero_on_every_side(size):
    images = np.random.default_rng(0).standard_normal((1, size, size, 1)).astype(np.float32)
    kernel = np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3, 1, 1)
    model = StrideTwo()
    actual = model.apply({"params": {"layer": {"kernel": kernel}}}, images)
    np.testing.assert_allclose(actual, convolve(images, kernel, stride=2), rtol=1e-5, atol=1e-4)


class StrideTwo(nn.Module):
    stride_padding: str = "torch"

    @nn.compact
    def __call__(self, images):
        layers = Layers(stride_padding=self.stride_padding)
        return layers.conv(images, 1, 3, stride=2, name="layer")


def test_stride_padding_same_begins_one_pixel_further_on_an_even_image():
    images = np.random.default_rng(0).standard_normal((1, 6, 6, 1)).astype(np.float32)
    kernel = np.arange(1.0, 10.0, dtype=np.float32).reshape(3, 3, 1, 1)
    actual = StrideTwo("same").apply({"params": {"layer": {"kernel": kernel}}}, images)
    # Kernels whose centres are at 1, 3 and 5 reach one zero beyond the last row and column alone.
    expected = convolve(images, kernel, stride=1)[:, 1::2, 1::2]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


def test_option_a_shortcut_takes_every_second_pixel_and_centres_the_channels():
    x = np.arange(2 * 5 * 4 * 2, dtype=np.float32).reshape(2, 5, 4, 2)
    expected = np.zeros((2, 3, 2, 4), np.float32)
    for i in range(3):
        for j in range(2):
            expected[:, i, j, 1:3] = x[:, 2 * i, 2 * j]
    np.testing.assert_array_equal(subsample_and_pad(jnp.asarray(x), 4, 2), expected)


def test_mean_and_std_normalise_inside_the_model():
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    model = models.create("digits_cnn", mean=mean, std=std)
    variables = randomize(jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images)), 1)
    expected = digits_cnn(Weights(variables), (images - np.array(mean)) / np.array(std))
    np.testing.assert_allclose(jax.jit(model.apply)(variables, images), expected, atol=1e-4)


def test_per_image_standardisation_has_the_floor_of_eight_bit_images():
    flat = np.full((1, 4, 4, 3), 0.5, np.float32)
    flat[0, 0, 0, 0] += 1e-6
    pixels = 255 * flat.astype(np.float64)
    expected = (pixels - pixels.mean()) / max(pixels.std(), 1 / np.sqrt(48))
    normalize = Layers(normalization="per_image").normalize
    np.testing.assert_allclose(normalize(jnp.asarray(flat)), expected, atol=1e-4)
    gradient = jax.grad(lambda images: normalize(images).sum())(jnp.full((1, 4, 4, 3), 0.5))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("relu", relu),
        ("leaky_relu", leaky_relu),
        ("silu", lambda x: x / (1 + np.exp(-x))),
    ],
)
def test_activations(activation, function):
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    np.testing.assert_allclose(
        Layers(activation=activation).activate(jnp.asarray(x)), function(x), atol=1e-6
    )


def test_the_activation_option_reaches_every_network():
    for name in ("wide_resnet_10_1", "resnet_8", "preact_resnet_18", "cifar_resnet_8"):
        images = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        model = models.create(name, activation="silu")
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        program = str(jax.make_jaxpr(model.apply)(variables, images))
        assert "logistic" in program and "relu" not in program


def test_bfloat16_agrees_with_float32_to_its_precision():
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    model = models.create("wide_resnet_10_1")
    variables = randomize(jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(images)), 1)
    exact = jax.jit(model.apply)(variables, images)
    half = jax.jit(models.create("wide_resnet_10_1", dtype=jnp.bfloat16).apply)(variables, images)
    error = np.abs(exact - half).max()
    assert 0 < error < 0.03 * np.abs(exact).max()


def test_max_pool_takes_the_largest_and_sends_the_gradient_to_the_first_of_equals():
    from robustjax.models.layers import max_pool

    # Few values, so that many squares hold their largest more than once; odd sizes.
    images = np.random.default_rng(0).integers(0, 3, (2, 7, 5, 3)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(2, 3, 2, 3)).astype(np.float32)
    expected, gradient = np.zeros((2, 3, 2, 3)), np.zeros_like(images)
    for place in np.ndindex(expected.shape):
        image, row, column, channel = place
        square = images[image, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        expected[place] = square.max()
        first = divmod(int(square.argmax()), 2)
        gradient[image, 2 * row + first[0], 2 * column + first[1], channel] = weights[place]
    np.testing.assert_array_equal(max_pool(jnp.asarray(images)), expected)
    found = jax.grad(lambda x: jnp.sum(weights * max_pool(x)))(jnp.asarray(images))
    np.testing.assert_array_equal(found, gradient)


def test_max_pool_does_not_hide_a_nan():
    from robustjax.models.layers import max_pool

    for place in range(4):
        square = np.zeros(4, np.float32)
        square[place] = np.nan
        assert np.isnan(max_pool(jnp.asarray(square.reshape(1, 2, 2, 1)))).all()
