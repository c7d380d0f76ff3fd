"""Mixing of images and labels: equal shares, the boxes and splits of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data

BATCH, SHAPE, CLASSES = 2000, (6, 5, 2), 3


def mixed(kind, images, other, alpha=1.0):
    keys = jax.random.split(jax.random.key(0), BATCH)
    own, partner = jnp.eye(CLASSES)[jnp.zeros(BATCH, int)], jnp.eye(CLASSES)[jnp.ones(BATCH, int)]
    return data.mix(keys, images, own, other, partner, data.Mixing(kind, alpha))


@pytest.mark.parametrize("kind", ["mixup", "vh_mixup", "cutmix"])
def test_the_label_has_the_share_that_the_pixels_have(kind):
    white, black = jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE))
    images, labels = mixed(kind, white, black)
    np.testing.assert_allclose(labels[:, 0], images.mean(axis=(1, 2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    assert labels[:, 0].std() > 0.1
    swapped, _ = mixed(kind, black, white)
    np.testing.assert_allclose(swapped, 1 - images, atol=1e-6)


def test_cutmix_pastes_one_box():
    images, labels = mixed("cutmix", jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE)))
    for image in np.asarray(images):
        assert set(np.unique(image)) <= {0.0, 1.0}
        pasted = image[..., 0] == 0
        rows, columns = pasted.any(axis=1), pasted.any(axis=0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert np.abs(np.diff(line.astype(int))).sum() <= 2
    assert np.any(labels[:, 0] == 1) and np.any(labels[:, 0] < 0.6)


def test_vh_mixup_splits_at_a_row_and_a_column():
    images, _ = mixed("vh_mixup", jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE)))
    for image in np.asarray(images)[..., 0]:
        # A corner piece of both, of one, of the other, and of none.
        vertical, horizontal = image[:, -1], image[-1]
        np.testing.assert_allclose(image, vertical[:, None] + horizontal[None], atol=1e-6)
        assert np.all(np.diff(vertical) <= 0) and np.all(np.diff(horizontal) <= 0)
        assert len(set(np.round(vertical, 6))) <= 2 and len(set(np.round(horizontal, 6))) <= 2


def test_vh_mixup_has_the_expected_share_at_every_pixel():
    images, _ = mixed("vh_mixup", jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE)))
    found = np.asarray(images)[..., 0]
    # Row r is of x if the split, uniform in {0..H - 1}, lies below it; columns alike; then halves.
    rows = (SHAPE[0] - 1 - np.arange(SHAPE[0])) / SHAPE[0]
    columns = (SHAPE[1] - 1 - np.arange(SHAPE[1])) / SHAPE[1]
    expected = (rows[:, None] + columns[None]) / 2
    np.testing.assert_allclose(found.mean(axis=0), expected, atol=2.5 / np.sqrt(BATCH))
    assert np.all(found[:, -1, -1] == 0)
    # The corner is the whole weight where both splits leave something: a uniform one in between.
    weight = found[:, 0, -1][(found[:, 0, -1] > 0) & (found[:, -1, 0] > 0)]
    np.testing.assert_allclose([weight.mean(), weight.var()], [1 / 2, 1 / 12], rtol=0.1)


def test_cutmix_has_the_expected_share_at_every_pixel():
    images, _ = mixed("cutmix", jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE)))
    height, width = SHAPE[:2]
    expected = np.zeros((height, width))
    areas = (np.arange(500) + 0.5) / 500
    for area in areas:
        half_height, half_width = (int(np.sqrt(area) * size) // 2 for size in (height, width))
        for row in range(height):
            for column in range(width):
                box = np.zeros((height, width))
                box[
                    max(row - half_height, 0) : row + half_height,
                    max(column - half_width, 0) : column + half_width,
                ] = 1
                expected += 1 - box
    expected /= len(areas) * height * width
    found = np.asarray(images)[..., 0].mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=2.5 / np.sqrt(BATCH))


def test_mixup_draws_from_the_beta_distribution():
    white, black = jnp.ones((BATCH, *SHAPE)), jnp.zeros((BATCH, *SHAPE))
    for alpha in (0.2, 1.0, 4.0):
        share = np.asarray(mixed("mixup", white, black, alpha)[1][:, 0])
        # The mean of Beta(a, a) is a half, its variance 1 / (8 a + 4).
        assert abs(share.mean() - 0.5) < 0.05
        np.testing.assert_allclose(share.var(), 1 / (8 * alpha + 4), rtol=0.12)
    for alpha in (1e-6, 1e6):
        share = np.asarray(mixed("mixup", white, black, alpha)[1][:, 0])
        assert np.all((share >= 0) & (share <= 1))


@pytest.mark.parametrize("kind", ["mixup", "vh_mixup", "cutmix"])
def test_an_example_draws_from_its_own_key_and_sees_its_own_partner(kind):
    rng = np.random.default_rng(0)
    one, other = rng.uniform(size=(2, BATCH, *SHAPE)).astype(np.float32)
    labels, other_labels = rng.dirichlet(np.ones(CLASSES), (2, BATCH)).astype(np.float32)
    arrays = [jax.random.split(jax.random.key(1), BATCH)]
    arrays += [jnp.asarray(array) for array in (one, labels, other, other_labels)]
    whole = data.mix(*arrays, data.Mixing(kind))
    order = rng.permutation(BATCH)
    reordered = data.mix(*(array[order] for array in arrays), data.Mixing(kind))
    for found, expected in zip(reordered, whole, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, expected[order])


def test_none_changes_nothing_and_partners_are_a_permutation():
    images = jnp.ones((BATCH, *SHAPE))
    np.testing.assert_array_equal(mixed("none", images, 0 * images)[0], images)
    partners = data.partners(jax.random.key(0), 50)
    np.testing.assert_array_equal(np.sort(partners), np.arange(50))
    assert np.any(partners != np.arange(50))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("keys", jax.random.key(0), r"keys=key.*\[\]: accepted are 4 typed PRNG keys"),
        (
            "keys",
            jnp.zeros((4, 2), jnp.uint32),
            r"keys=uint32\[4, 2\]: accepted are 4 typed PRNG keys",
        ),
        ("keys", None, "keys=NoneType: accepted are 4 typed PRNG keys"),
        ("images", None, r"images=\[\], other_images=.*accepted are \[B, H, W, C\]"),
        ("labels", None, r"labels=\[\], other_labels=.*distributions \[4, K\]"),
        (
            "labels",
            jnp.ones((4, CLASSES)),
            "mix: labels holds a row that sums to 3: ",
        ),
        (
            "other_labels",
            jnp.full((4, CLASSES), jnp.nan),
            "mix: labels holds nan: accepted",
        ),
        ("images", jnp.zeros((4, 6, 5)), r"images=\[4, 6, 5\], .*\[B, H, W, C\]"),
        ("other_images", jnp.zeros((4, 6, 6, 2)), r"other_images=\[4, 6, 6, 2\]: accepted"),
        ("labels", jnp.zeros(4), r"labels=\[4\], .*distributions \[4, K\]"),
        ("other_labels", jnp.zeros((4, 2)), r"labels=\[4, 3\], other_labels=\[4, 2\]:"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(argument, value, message):
    images, labels = jnp.zeros((4, *SHAPE)), jnp.full((4, CLASSES), 1 / CLASSES)
    arguments = {
        "keys": jax.random.split(jax.random.key(0), 4),
        "images": images, "labels": labels, "other_images": images, "other_labels": labels,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        data.mix(**{**arguments, argument: value}, mixing=data.Mixing("mixup"))


@pytest.mark.parametrize(
    ("kind", "alpha"),
    [
        ("mix", 1.0),
        ("mixup", 0.0),
        ("mixup", np.inf),
        ("mixup", np.nan),
        ("mixup", "1"),
        (None, 1.0),
    ],
)
def test_what_is_not_accepted_is_refused(kind, alpha):
    with pytest.raises(ValueError, match="(kind|alpha)=.*: accepted are"):
        data.Mixing(kind, alpha)


def test_the_nearest_kind_is_suggested():
    with pytest.raises(ValueError, match="kind=mixpu: accepted are .*; did you mean 'mixup'"):
        data.Mixing("mixpu")
