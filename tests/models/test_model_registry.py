"""What `models.create` accepts and refuses, and the size of what it makes, without computing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models


def image_shape(name: str) -> tuple[int, int, int]:
    if "mnist" in name or name == "small_cnn":
        return (28, 28, 1)
    return (8, 8, 1) if name == "digits_cnn" else (32, 32, 3)


def shapes(model, shape, **call):
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    rngs = {"dropout": jax.random.key(1)}

    def apply(variables, images):
        return model.apply(variables, images, rngs=rngs, mutable=["batch_stats"], **call)

    return variables, *jax.eval_shape(apply, variables, images)


PUBLISHED_COUNTS = {
    "wide_resnet_34_10": 46_160_474,
    "wide_resnet_28_10": 36_479_194,
    "wide_resnet_58_10": 84_885_594,
    "wide_resnet_34_4": 7_399_130,
    "wide_resnet_34_1": 466_714,
    "resnet_18": 11_173_962,
    "resnet_34": 21_282_122,
    "resnet_50": 23_520_842,
    "preact_resnet_18": 11_172_170,
    "cifar_resnet_20": 269_722,
    "cifar_resnet_32": 464_154,
    "cifar_resnet_44": 658_586,
    "cifar_resnet_56": 853_018,
    "cifar_resnet_110": 1_727_962,
    "small_cnn": 312_202,
    "fat_small_cnn": 1_639_282,
    "tutorial_cnn": 62_006,
    "tutorial_cnn_small": 15_773,
}


@pytest.mark.parametrize("name", PUBLISHED_COUNTS)
def test_parameter_counts_are_the_published_ones(name):
    assert models.parameter_count(models.create(name), image_shape(name)) == PUBLISHED_COUNTS[name]


@pytest.mark.parametrize("capacity", [1, 2, 6, 8])
def test_parameters_of_the_sense_mnist_network(capacity):
    first, second, hidden = 2 ** (capacity - 1), 2**capacity, 2 ** (capacity + 4)
    expected = (25 + 1) * first + (25 * first + 1) * second
    expected += (7 * 7 * second + 1) * hidden + (hidden + 1) * 10
    model = models.create(f"sense_mnist_cnn_{capacity}")
    assert models.parameter_count(model, (28, 28, 1)) == expected


def test_parameters_of_the_madry_networks():
    expected = 25 * 32 + 32 + 25 * 32 * 64 + 64 + 49 * 64 * 1024 + 1024 + 1024 * 10 + 10
    assert models.parameter_count(models.create("madry_mnist_cnn"), (28, 28, 1)) == expected

    def challenge(widths):
        total, channels = 27 * 16, 16
        for width in widths:
            for _ in range(5):
                total += 2 * channels + 9 * channels * width + 2 * width + 9 * width * width
                channels = width
        return total + 2 * channels + channels * 10 + 10

    simple, wide = models.create("madry_simple_resnet"), models.create("madry_w32_10")
    assert models.parameter_count(simple) == challenge((16, 32, 64))
    assert models.parameter_count(wide) == challenge((160, 320, 640))


@pytest.mark.parametrize("name", models.names())
def test_every_network_maps_images_to_float32_logits(name):
    model = models.create(name, num_classes=7)
    _, logits, _ = shapes(model, image_shape(name))
    assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
    assert hash(model) == hash(models.create(name, num_classes=7))
    assert models.describe(name) and "\n" not in models.describe(name)


@pytest.mark.parametrize(
    "name",
    [
        "wide_resnet_10_1",
        "resnet_8",
        "preact_resnet_18",
        "cifar_resnet_8",
        "madry_simple_resnet",
        "small_cnn",
        "fat_small_cnn",
        "tutorial_cnn",
        "sense_mnist_cnn_2",
        "madry_mnist_cnn",
        "digits_cnn",
    ],
)
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(name):
    model = models.create(name, dtype=jnp.bfloat16)
    variables, logits, updates = shapes(model, image_shape(name), train=True)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}
    assert logits.dtype == jnp.float32
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    images = jnp.zeros((1, *image_shape(name)))
    program = jax.make_jaxpr(lambda images: model.apply(zeros, images))(images)

    def computed(primitive):
        used = [equation for equation in program.eqns if equation.primitive.name == primitive]
        return [str(equation.outvars[0].aval.dtype) for equation in used]

    assert set(computed("conv_general_dilated")) == {"bfloat16"}
    *hidden, head = computed("dot_general")
    assert set(hidden) <= {"bfloat16"} and head == "float32"


def test_networks_take_images_of_other_sizes():
    for name, shape in [
        ("wide_resnet_10_2", (8, 12, 1)),
        ("small_cnn", (32, 32, 3)),
        ("fat_small_cnn", (28, 28, 1)),
        ("digits_cnn", (28, 28, 1)),
        ("madry_simple_resnet", (28, 28, 1)),
    ]:
        assert shapes(models.create(name), shape)[1].shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("small_cnn", 16), ("tutorial_cnn", 16), ("fat_small_cnn", 8), ("madry_mnist_cnn", 4)],
)
def test_an_image_too_small_is_refused_and_the_smallest_is_not(name, smallest):
    model = models.create(name)
    assert shapes(model, (smallest, smallest, 1))[1].shape == (2, 10)
    with pytest.raises(ValueError, match=f"at least {smallest}"):
        shapes(model, (smallest, smallest - 1, 1))


def test_names_are_distinct_and_patterns_reach_further():
    assert len(set(models.names())) == len(models.names())
    assert {"wide_resnet_34_10", "resnet_18", "small_cnn"} <= set(models.names())
    for name in ("wide_resnet_22_3", "cifar_resnet_14", "sense_mnist_cnn_7"):
        assert name not in models.names()
        assert models.create(name) == models.create(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "wide_resnet_34_10.*did you mean 'resnet_18'"),
        ("wide_resnet_34", "no network is called wide_resnet_34:"),
        ("wide_resnet_34_10x", "no network is called"),
        ("wide_resnet_33_10", "depth 33.*multiple of 6, as 28 or 34"),
        ("wide_resnet_4_1", "depth 4.*as 10 or 16"),
        ("wide_resnet_34_0", "no network is called"),
        ("wide_resnet_10_100000", "wide_resnet_10_100000 is larger than any .* 1202, 1000"),
        ("cifar_resnet_600002", "cifar_resnet_600002 is larger than any"),
        ("sense_mnist_cnn_99999999999999", "is larger than any"),
        (None, "no network is called None"),
        (("resnet", 18), "no network is called"),
        ("cifar_resnet_21", "depth 21.*as 20 or 26"),
        ("resnet_19", "depth 19.*8, 18, 34, 50"),
        ("sense_mnist_cnn_0", "no network is called"),
    ],
)
def test_unknown_networks_are_refused_with_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        models.create(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet_18", {"dropout": 0.1}, "resnet_18 has no option 'dropout'; it takes activation,"),
        ("small_cnn", {"widht": 3}, "no option 'widht'; it takes .*dropout"),
        ("small_cnn", {"dropout": 1.0}, r"dropout=1.0: accepted are rates in \[0, 1\)"),
        ("small_cnn", {"activation": "tanh"}, "activation='tanh': expected 'relu' or"),
        ("small_cnn", {"dtype": jnp.float16}, "expected jnp.float32 or jnp.bfloat16"),
        ("small_cnn", {"dtype": "bfloat16"}, "expected jnp.float32 or jnp.bfloat16"),
        ("small_cnn", {"normalization": "batch"}, "normalization='batch': expected 'none' or"),
        ("small_cnn", {"mean": (0.5,)}, "give both, or neither"),
        ("small_cnn", {"mean": (0.5,), "std": (0.0,)}, "positive deviations"),
        ("small_cnn", {"mean": (0.5, 0.5), "std": (0.1,)}, "one number per channel"),
        ("madry_simple_resnet", {"mean": (0.5,), "std": (0.1,)}, "choose one"),
        ("small_cnn", {"activation": "rleu"}, "activation='rleu': .*; did you mean 'relu'"),
        ("small_cnn", {"normalization": "per-image"}, "; did you mean 'per_image'"),
        ("resnet_18", {"remat": "False"}, "remat=False: accepted are True, False"),
        ("digits_cnn", {"mean": 0.5, "std": 0.2}, "mean=0.5: accepted are one finite number per"),
        ("digits_cnn", {"mean": (0.5,), "std": ("x",)}, r"std=\('x',\): accepted are one finite"),
        ("digits_cnn", {"mean": (float("nan"),), "std": (1,)}, r"mean=\(nan,\): accepted are"),
        ("small_cnn", {"num_classes": 1}, "num_classes=1: accepted are whole numbers"),
        ("small_cnn", {"num_classes": 10.0}, "num_classes=10.0: accepted are whole numbers"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, **options)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (jax.ShapeDtypeStruct((8, 8, 3), jnp.float32), r"expected \[B, H, W, C\]"),
        (jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8), "images of dtype uint8: expected floats"),
        (jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), "has 3 channels, the images .* have 1"),
    ],
)
def test_images_are_checked(images, message):
    model = models.create("digits_cnn", mean=[0.5, 0.5, 0.5], std=[0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), images)


def test_numbers_of_numpy_make_the_same_network():
    made = models.create("resnet_18", num_classes=np.int64(10), remat=np.bool_(True))
    assert made == models.create("resnet_18", num_classes=10, remat=True)
    assert type(made.num_classes) is int and made.remat is True


@pytest.mark.parametrize("name", ["digits_cnn", "small_cnn", "fat_small_cnn", "resnet_8"])
def test_no_images_have_no_logits(name):
    model = models.create(name)
    variables = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    )
    none = jax.ShapeDtypeStruct((0, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(model.apply, variables, none).shape == (0, 10)


def test_madry_networks_refuse_sizes_that_do_not_halve_twice():
    with pytest.raises(ValueError, match="multiples of 4"):
        shapes(models.create("madry_simple_resnet"), (30, 30, 3))
