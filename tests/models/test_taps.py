"""A convolution as one product: the sum written out in float64, uneven in every way."""

import jax
import numpy as np
import pytest

from robustjax.models import taps

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(3, 6, 7, 2)).astype(np.float32)
KERNEL = RANDOM.normal(size=(2, 3, 2, 5)).astype(np.float32)
PADDING = ((0, 1), (2, 0))


@pytest.mark.parametrize("strides", [(1, 2), (2, 1), (3, 2)])
def test_unlike_strides_sides_and_zeros(strides):
    padded = np.pad(INPUTS.astype(np.float64), ((0, 0), *PADDING, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 3), (1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    outputs = np.einsum("bhwcij,ijcd->bhwd", windows, KERNEL)
    found = taps.convolve(INPUTS, KERNEL, strides, PADDING)
    np.testing.assert_allclose(found, outputs, atol=1e-5)
    cotangent = np.random.default_rng(1).normal(size=outputs.shape).astype(np.float32)
    gradient = np.einsum("bhwcij,bhwd->ijcd", windows, cotangent)
    found = taps.kernel_gradient(INPUTS, cotangent, (2, 3), strides, PADDING)
    np.testing.assert_allclose(found, gradient, atol=1e-4)


@pytest.mark.parametrize("features", [5, 40])
def test_entries_of_an_image_are_those_of_the_largest_array_on_the_way(features, monkeypatch):
    found = []

    def record(function, *arguments):
        *arrays, entries = arguments
        images = [jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for array in arrays]
        made = jax.make_jaxpr(function)(*images)
        sizes = [var.aval.size for line in made.eqns for var in (*line.invars, *line.outvars)]
        found.append((entries, max(sizes)))
        return function(*arrays)

    monkeypatch.setattr(taps, "map_images", record)
    monkeypatch.setattr(taps, "sum_images", record)
    kernel = np.zeros((2, 3, 2, features), np.float32)
    outputs = taps.convolve.__wrapped__(INPUTS, kernel, (2, 1), PADDING)
    taps.kernel_gradient.__wrapped__(INPUTS, outputs, (2, 3), (2, 1), PADDING)
    size = outputs[0].size // features * max(12, features)
    assert found == [(size, size)] * 2
