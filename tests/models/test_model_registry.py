"""What every network keeps to, and what `models.create` accepts and refuses."""

import dataclasses
import functools
import inspect

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models
from robustjax.models import registry
from robustjax.models.forward import forward


def image_shape(name: str) -> tuple[int, int, int]:
    if "mnist" in name or name == "small_cnn":
        return (28, 28, 1)
    return (8, 8, 1) if name == "digits_cnn" else (32, 32, 3)


def shapes(model, shape, dtype=jnp.float32, **call):
    """Variables, logits and moved statistics, traced and not computed."""
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    rngs = {"dropout": jax.random.key(1)}

    def apply(variables, images):
        return model.apply(variables, images, rngs=rngs, mutable=["batch_stats"], **call)

    return variables, *jax.eval_shape(apply, variables, images)


# What holds for every network; a new one is found by the registry.

every_network = pytest.mark.parametrize("name", models.names())
# One network of each line of the registry, the smallest; of these some are too large to compute.
EACH_KIND = [network.names()[0] for network in registry.NETWORKS]
COMPUTED = [name for name in EACH_KIND if name not in ("preact_resnet_18", "madry_w32_10")]


def of_wide_resnet(depth, width):
    total, channels = 27 * 16, 16
    for features in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 4) // 6):
            total += 2 * channels + 9 * channels * features + 2 * features + 9 * features**2
            total += channels * features if channels != features else 0
            channels = features
    return total + 2 * channels + channels * 10 + 10


def of_basic_blocks(groups, per_group, projected):
    """A stem to the channels of the first group, blocks of two 3×3 convolutions, a head."""
    channels = groups[0]
    total = 27 * channels + 2 * channels
    for features in groups:
        for _ in range(per_group):
            total += 9 * channels * features + 9 * features**2 + 4 * features
            if projected and channels != features:
                total += channels * features + 2 * features
            channels = features
    return total + channels * 10 + 10


def of_madry_resnet(widths):
    total, channels = 27 * 16, 16
    for width in widths:
        for _ in range(5):
            total += 2 * channels + 9 * channels * width + 2 * width + 9 * width * width
            channels = width
    return total + 2 * channels + channels * 10 + 10


def of_mnist_network(first, second, hidden):
    total = (25 + 1) * first + (25 * first + 1) * second
    return total + (7 * 7 * second + 1) * hidden + (hidden + 1) * 10


PARAMETERS = {
    # As published.
    "wide_resnet_34_10": 46_160_474,
    "wide_resnet_28_10": 36_479_194,
    "wide_resnet_58_10": 84_885_594,
    "wide_resnet_34_4": 7_399_130,
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
    # From the descriptions.
    **{
        f"wide_resnet_{depth}_{width}": of_wide_resnet(depth, width)
        for depth, width in ((16, 2), (28, 2), (28, 4), (34, 8), (40, 4))
    },
    "resnet_8": of_basic_blocks((64, 128, 256), 1, projected=True),
    "cifar_resnet_8": of_basic_blocks((16, 32, 64), 1, projected=False),
    "madry_simple_resnet": of_madry_resnet((16, 32, 64)),
    "madry_w32_10": of_madry_resnet((160, 320, 640)),
    "madry_mnist_cnn": of_mnist_network(32, 64, 1024),
    **{
        f"sense_mnist_cnn_{d}": of_mnist_network(2 ** (d - 1), 2**d, 2 ** (d + 4))
        for d in (1, 2, 3, 4, 5, 6)
    },
    "digits_cnn": (9 + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 32 + (4 * 32 + 1) * 10,
}


@every_network
def test_its_parameters_are_those_of_its_description(name):
    assert name in PARAMETERS, (
        f"network {name}: say in PARAMETERS of {__file__} how many parameters it has, published or "
        "counted from its description"
    )
    model = models.create(name)
    assert models.parameter_count(model, image_shape(name)) == PARAMETERS[name]
    assert hash(model) == hash(models.create(name))
    assert models.describe(name) and "\n" not in models.describe(name)


def test_the_formulas_count_what_is_published():
    assert of_wide_resnet(34, 10) == PARAMETERS["wide_resnet_34_10"]
    assert of_basic_blocks((16, 32, 64), 3, projected=False) == PARAMETERS["cifar_resnet_20"]
    assert of_basic_blocks((64, 128, 256, 512), 2, projected=True) == PARAMETERS["resnet_18"]
    wider = models.create("sense_mnist_cnn_8")
    assert models.parameter_count(wider, (28, 28, 1)) == of_mnist_network(128, 256, 4096)
    assert models.parameter_count(models.create("wide_resnet_34_1")) == 466_714


# resnet_50 has blocks of its own; what else there is differs in how often a block is repeated.
@pytest.mark.parametrize("name", [*EACH_KIND, "resnet_50"])
def test_it_maps_images_to_float32_logits_in_training_and_in_evaluation(name):
    model = models.create(name, num_classes=7)
    images = jax.ShapeDtypeStruct((2, *image_shape(name)), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    program = functools.partial(model.apply, rngs={"dropout": jax.random.key(1)}, mutable=True)
    for train in (False, True):
        logits, moved = jax.eval_shape(functools.partial(program, train=train), variables, images)
        chex.assert_shape(logits, (2, 7))
        chex.assert_type(logits, jnp.float32)
        chex.assert_trees_all_equal_shapes_and_dtypes(moved, variables)


@pytest.mark.parametrize("network", registry.NETWORKS, ids=lambda network: network.pattern)
def test_it_says_what_it_takes_and_where_it_is_from_and_its_example_runs(network, documented):
    module = getattr(network.module, "func", network.module)
    documented(module, f"network {network.pattern}", ("Attributes", "Example", "Source"))
    for field in dataclasses.fields(module):
        if field.name not in ("parent", "name"):
            assert f"\n    {field.name}: " in inspect.getdoc(module), field.name


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
@pytest.mark.parametrize("name", EACH_KIND)
def test_images_of_any_precision_are_computed_in_float32(name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        variables, logits, _ = shapes(models.create(name), image_shape(name), dtype, train=True)
    chex.assert_type([logits, *jax.tree.leaves(variables)], jnp.float32)


@pytest.mark.parametrize("name", COMPUTED)
def test_in_evaluation_a_row_of_logits_is_of_its_image_alone(name):
    shape = (28, 28, 1) if "mnist" in name else (16, 16, 1)
    model, random = models.create(name), np.random.default_rng(0)
    images = random.uniform(size=(3, *shape)).astype(np.float32)
    variables = drawn(model, images)
    logits = jax.jit(model.apply)
    found = logits(variables, images)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(found, logits(variables, images))
    others = np.where(np.arange(3)[:, None, None, None] == 1, images, np.float32(0.5))
    chex.assert_trees_all_close(logits(variables, others)[1], found[1], rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits(variables, others)[0], found[0], rtol=1e-4)


def drawn(model, images):
    """Variables that compile nothing: kernels drawn in NumPy, heads of zeros too."""
    random = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return (deviation * random.standard_normal(leaf.shape)).astype(np.float32)
        return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)

    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree_util.tree_map_with_path(draw, variables)


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
        ("wide_resnet_34", "^model=wide_resnet_34: accepted are"),
        ("wide_resnet_34_10x", "model=wide_resnet_34_10x: accepted are"),
        ("wide_resnet_33_10", "depth=33: accepted are .*multiple of 6, as 28 or 34"),
        ("wide_resnet_4_1", "depth=4: .*as 10 or 16"),
        ("wide_resnet_34_0", "model=wide_resnet_34_0: accepted are"),
        ("wide_resnet_10_100000", "wide_resnet_10_100000 is larger than any .* 1202, 1000"),
        ("cifar_resnet_600002", "cifar_resnet_600002 is larger than any"),
        ("sense_mnist_cnn_99999999999999", "is larger than any"),
        (None, "^model=None: accepted are"),
        (("resnet", 18), r"^model=\(.*: accepted are"),
        ("cifar_resnet_21", "depth=21: .*as 20 or 26"),
        ("resnet_19", "depth=19: accepted are 8, 18, 34, 50"),
        ("sense_mnist_cnn_0", "model=sense_mnist_cnn_0: accepted are"),
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
        ("small_cnn", {"activation": "tanh"}, "activation=tanh: accepted are relu, "),
        (
            "small_cnn",
            {"dtype": jnp.float16},
            "dtype=.*: accepted are jnp.float32 and jnp.bfloat16",
        ),
        ("small_cnn", {"dtype": "bfloat16"}, "dtype=.*: accepted are jnp.float32 and jnp.bfloat16"),
        ("small_cnn", {"normalization": "batch"}, "normalization=batch: accepted are none, "),
        ("resnet_18", {"stride_padding": "SAME"}, "stride_padding=SAME: accepted are torch, same"),
        ("small_cnn", {"mean": (0.5,)}, "accepted are both, or neither"),
        ("small_cnn", {"mean": (0.5,), "std": (0.0,)}, "positive deviations"),
        ("small_cnn", {"mean": (0.5, 0.5), "std": (0.1,)}, "one number per channel"),
        ("madry_simple_resnet", {"mean": (0.5,), "std": (0.1,)}, "accepted is one of the two"),
        ("small_cnn", {"activation": "rleu"}, "activation=rleu: .*; did you mean 'relu'"),
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
        (
            jax.ShapeDtypeStruct((8, 8, 3), jnp.float32),
            r"images=float32\[8, 8, 3\]: accepted are \[B, H, W, C\]",
        ),
        (
            jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.uint8),
            r"images=uint8\[.*: accepted are floating point",
        ),
        (
            jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32),
            r"mean=.*: accepted are one for each channel of .* 1\]",
        ),
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


def test_a_network_that_gives_more_than_its_logits_is_named():
    class Twofold(nn.Module):
        @nn.compact
        def __call__(self, images, train):
            return images.sum((1, 2)), images

    with pytest.raises(ValueError, match="^Twofold: logits=a tuple: accepted are arrays"):
        forward(Twofold(), {}, jnp.zeros((2, 4, 4, 3)))
