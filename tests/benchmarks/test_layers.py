"""A network's passes that are cut off after a convolution, and what each layer adds to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import layers
from robustjax import models
from robustjax.errors import UserError
from robustjax.models import flops

SHAPE = (2, 28, 28, 1)


def test_a_pass_ends_with_the_convolution_of_its_number():
    first, second, *_, whole = passes = layers.cut_passes("small_cnn", SHAPE)
    assert len(passes) == 5
    images = jax.random.uniform(jax.random.key(3), SHAPE)
    network = models.create("small_cnn")
    variables = network.init(jax.random.key(0), jnp.zeros((1, *SHAPE[1:])))
    kernel, bias = (variables["params"]["conv1"][name] for name in ("kernel", "bias"))
    windows = np.lib.stride_tricks.sliding_window_view(np.float64(images[..., 0]), (3, 3), (1, 2))
    expected = np.einsum("bhwij,ijd->bhwd", windows, np.float64(kernel[:, :, 0])) + bias
    np.testing.assert_allclose(first(images), expected, atol=1e-5)
    # No activation behind it, and only what lies before it counts.
    assert np.min(first(images)) < 0
    assert second(images).shape == (2, 24, 24, 32)
    np.testing.assert_array_equal(whole(images), network.apply(variables, images))


def test_layers_add_up_to_the_passes():
    rows = layers.measure("digits_cnn", (3, 8, 8, 1), 2, turns=1, rounds=1)
    assert [row["layer"] for row in rows][-1] == layers.REST
    assert sum(row["flops"] for row in rows) == 2 * 3 * flops.forward("digits_cnn", (8, 8, 1))
    added = layers._added(np.array([[1.0, 2.0, 9.0], [4.0, 4.0, 10.0]]))
    np.testing.assert_array_equal(added, [2.0, 2.0])


def test_a_row_holds_a_layer_to_its_floor():
    row = {"model": "m", "layer": "conv 1", "forward": 2e-3, "gradient": -1e-6, "flops": 10**9}
    cells = layers.entries(row | {"matrix_flops_per_second": 1e12})
    assert cells == ["m", "conv 1", "2.00", "1.00", "50 %", "0.00", "-"]


def test_a_wrong_size_is_one_sentence():
    with pytest.raises(UserError, match="--image=28,0,1: accepted are three sizes"):
        layers.image_of(["28", "0", "1"])
    assert layers.image_of(["28", "28", "1"]) == (28, 28, 1)
