"""Parts of a batch: together they are the whole, none is larger than it may be."""

import jax.numpy as jnp
import numpy as np
import pytest

from robustjax.models import image_parts


@pytest.mark.parametrize(
    ("images", "at_most", "sizes"),
    [
        (8, 8, {8}),
        (8, 5, {4}),  # without a rest
        (7, 3, {3, 1}),  # a prime: with one
        (50, 8, {5}),
        (25, 12, {12, 1}),  # 5 would be less than half
        (0, 8, {0}),
        (4, 0.5, {1}),  # an image is a part, however large
    ],
)
def test_sizes(images, at_most, sizes, monkeypatch):
    entries = 10
    monkeypatch.setattr(image_parts, "_ENTRIES", at_most * entries)
    rows = 1 + jnp.arange(images * 2.0).reshape(images, 2)
    seen = set()

    def doubled(part):
        seen.add(len(part))
        return 2 * part[:, :1]

    np.testing.assert_array_equal(image_parts.map_images(doubled, rows, entries), 2 * rows[:, :1])
    assert seen == sizes
    seen.clear()

    def product(first, second):
        seen.add(len(first))
        return jnp.einsum("nc,nd->cd", first, second)

    found = image_parts.sum_images(product, rows, rows[:, :1], entries)
    np.testing.assert_allclose(found, rows.T @ rows[:, :1], rtol=1e-6)
    assert seen == sizes


def test_what_is_no_number_spoils_its_own_sums_alone(monkeypatch):
    monkeypatch.setattr(image_parts, "_ENTRIES", 2)
    rows = np.ones((4, 3), np.float32)
    rows[0, 0] = np.nan
    found = image_parts.sum_images(lambda first, second: first.T @ second, rows, rows[:, 1:], 1)
    np.testing.assert_array_equal(found, [[np.nan, np.nan], [4, 4], [4, 4]])
