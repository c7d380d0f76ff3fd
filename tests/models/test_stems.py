"""The stem for large images: against NumPy, and against the published sizes of the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import interop, models
from robustjax.models.stems import max_pool_3

# Of the networks of 1000 classes in torchvision.
PUBLISHED = {"resnet_18": 11_689_512, "resnet_34": 21_797_672, "resnet_50": 25_557_032}

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_parameters_are_the_published_ones(name):
    model = models.create(name, num_classes=1000, stem="imagenet")
    assert models.parameter_count(model, (224, 224, 3)) == PUBLISHED[name]


@pytest.mark.parametrize("shape", [(7, 5), (6, 8), (1, 2)])
def test_the_pool_takes_the_largest_and_sends_the_gradient_to_the_first_of_equals(shape):
    # Few values, so that many squares hold their largest more than once; squares overlap.
    images = RANDOM.integers(0, 3, (2, *shape, 3)).astype(np.float32)
    size = tuple(-(-side // 2) for side in shape)
    weights = RANDOM.normal(size=(2, *size, 3))
    expected, gradient = np.zeros(weights.shape), np.zeros(images.shape)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    for image, row, column, channel in np.ndindex(expected.shape):
        square = padded[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        place = (image, row, column, channel)
        expected[place] = square.max()
        down, right = divmod(int(square.argmax()), square.shape[1])
        gradient[image, 2 * row - 1 + down, 2 * column - 1 + right, channel] += weights[place]
    np.testing.assert_array_equal(max_pool_3(jnp.asarray(images)), expected)
    found = jax.grad(lambda x: jnp.sum(weights * max_pool_3(x)))(jnp.asarray(images))
    np.testing.assert_allclose(found, gradient, rtol=1e-5, atol=1e-6)


def stem_in_numpy(images, kernel):
    """A 7×7 convolution of stride 2 between three zeros on every side, norm, ReLU, pool."""
    size = (images.shape[1] + 1) // 2
    padded = np.pad(images.astype(np.float64), ((0, 0), (3, 3), (3, 3), (0, 0)))
    out = np.zeros((len(images), size, size, kernel.shape[-1]))
    for row, column in np.ndindex(size, size):
        patch = padded[:, 2 * row : 2 * row + 7, 2 * column : 2 * column + 7]
        out[:, row, column] = np.tensordot(patch, kernel.astype(np.float64), 3)
    out = np.maximum(out / np.sqrt(1 + 1e-5), 0)
    padded = np.pad(out, ((0, 0), (1, 1), (1, 1), (0, 0)))  # Nothing is below 0.
    half = -(-size // 2)
    rows = [padded[:, offset : offset + 2 * half - 1 : 2] for offset in range(3)]
    tallest = np.max(rows, axis=0)
    columns = [tallest[:, :, offset : offset + 2 * half - 1 : 2] for offset in range(3)]
    return np.max(columns, axis=0)


@pytest.mark.parametrize("name", ["resnet_8", "preact_resnet_18"])
def test_the_stem_is_that_of_the_description(name, monkeypatch):
    """What reaches the first block, caught on its way there."""
    module = {"resnet_8": "resnet", "preact_resnet_18": "preact_resnet"}[name]
    caught = []

    class Caught(Exception):
        pass

    def catch(block, x, **options):
        caught.append(np.asarray(x))
        raise Caught

    model = models.create(name, stem="imagenet", convolution="xla")
    images = RANDOM.random((2, 18, 18, 3)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    variables["batch_stats"]["bn1"]["mean"] = np.zeros(64, np.float32)
    variables["params"]["bn1"]["bias"] = np.zeros(64, np.float32)
    kernel = RANDOM.normal(size=(7, 7, 3, 64)).astype(np.float32)
    variables["params"]["conv1"]["kernel"] = kernel
    monkeypatch.setattr(f"robustjax.models.{module}.apply_block", catch)
    with pytest.raises(Caught):
        model.apply(variables, images)
    expected = stem_in_numpy(images, kernel)
    assert caught[0].shape == expected.shape == (2, 5, 5, 64)
    np.testing.assert_allclose(caught[0], expected, rtol=1e-4, atol=1e-4)


def test_weights_of_torchvision_are_read_and_tell_their_stem():
    model = models.create("resnet_18", num_classes=7, stem="imagenet")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    variables["params"]["linear"]["bias"] = np.arange(7, dtype=np.float32)
    state = interop.to_torch("resnet_18", variables, layout="torchvision", stem="imagenet")
    assert len(state) == 122  # As many as torchvision's have.
    assert {"conv1.weight", "layer2.0.downsample.1.running_var", "fc.bias"} <= set(state)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)
    assert interop.told_options("resnet_18", state) == {"num_classes": 7, "stem": "imagenet"}
    read = interop.from_torch("resnet_18", state, stem="imagenet")
    np.testing.assert_array_equal(read["params"]["linear"]["bias"], np.arange(7))
    with pytest.raises(ValueError, match="stem=cifar: the state dict is of a network with stem=im"):
        interop.from_torch("resnet_18", state, stem="cifar")


@pytest.mark.parametrize("name", ["resnet_18", "preact_resnet_18"])
def test_an_unknown_stem_is_refused(name):
    with pytest.raises(
        ValueError, match="stem=imagnet: accepted are cifar, imagenet; did you mean"
    ):
        models.create(name, stem="imagnet")
    with pytest.raises(ValueError, match="has no option 'stem'"):
        models.create("small_cnn", stem="imagenet")
