"""Mixing of images and labels: equal shares, the boxes and splits of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data

BATCH, SHAPE, CLASSES = 400, (6, 5, 2), 3


def mixed(kind, images, other, alpha=1.0, batch=BATCH, seed=0):
    keys = jax.random.split(jax.random.key(seed), batch)
    own, partner = jnp.eye(CLASSES)[jnp.zeros(batch, int)], jnp.eye(CLASSES)[jnp.ones(batch, int)]
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


def test_mixup_draws_from_the_beta_distribution():
    white, black = jnp.ones((4000, 1, 1, 1)), jnp.zeros((4000, 1, 1, 1))
    for alpha in (0.2, 1.0, 4.0):
        share = np.asarray(mixed("mixup", white, black, alpha, 4000)[1][:, 0])
        # The mean of Beta(a, a) is a half, its variance 1 / (8 a + 4).
        assert abs(share.mean() - 0.5) < 0.03
        np.testing.assert_allclose(share.var(), 1 / (8 * alpha + 4), rtol=0.1)


@pytest.mark.parametrize("kind", ["mixup", "vh_mixup", "cutmix"])
def test_an_example_draws_from_its_own_key(kind):
    rng = np.random.default_rng(0)
    one, other = jnp.asarray(rng.uniform(size=(2, 8, *SHAPE)), jnp.float32)
    labels, partner_labels = jnp.asarray(rng.dirichlet(np.ones(CLASSES), (2, 8)), jnp.float32)
    keys, mixing = jax.random.split(jax.random.key(1), 8), data.Mixing(kind)
    whole = data.mix(keys, one, labels, other, partner_labels, mixing)
    part = data.mix(keys[3:4], one[3:4], labels[3:4], other[3:4], partner_labels[3:4], mixing)
    np.testing.assert_allclose(part[0], whole[0][3:4], atol=1e-6)
    np.testing.assert_allclose(part[1], whole[1][3:4], atol=1e-6)


def test_none_changes_nothing_and_partners_are_a_permutation():
    images = jnp.ones((BATCH, *SHAPE))
    np.testing.assert_array_equal(mixed("none", images, 0 * images)[0], images)
    partners = data.partners(jax.random.key(0), 50)
    np.testing.assert_array_equal(np.sort(partners), np.arange(50))
    assert np.any(partners != np.arange(50))


@pytest.mark.parametrize(("kind", "alpha"), [("mix", 1.0), ("mixup", 0.0), ("mixup", np.inf)])
def test_what_is_not_accepted_is_refused(kind, alpha):
    with pytest.raises(ValueError, match="must be"):
        data.Mixing(kind, alpha)
