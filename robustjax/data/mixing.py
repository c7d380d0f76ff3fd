"""Mixing of each image and its label with another's: mixup, VH-mixup and CutMix, on the device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import (
    LARGEST_FLOAT32,
    is_number,
    plain,
    refusal,
    require_choice,
    require_whole,
    shown,
)
from robustjax.arguments.arrays import check_distributions
from robustjax.data.augmentation import require_keys
from robustjax.errors import UserError

KINDS = ("none", "mixup", "vh_mixup", "cutmix")


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How training images are mixed.

    Attributes:
        kind: "none"; "mixup" (Zhang et al., 2018); "vh_mixup" (Summers and Dinneen, 2019, in their
            paper on mixed examples); or "cutmix" (Yun et al., 2019).
        alpha: of the Beta(alpha, alpha) that mixup and CutMix draw their share from.

    Raises:
        ValueError: If a value is not accepted.
    """

    kind: str = "none"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        if not is_number(self.alpha) or not 0 < self.alpha <= LARGEST_FLOAT32:
            raise refusal("alpha", shown(self.alpha), "finite numbers above 0")
        object.__setattr__(self, "alpha", plain(self.alpha))


def partners(key: jax.Array, batch_size: int) -> jax.Array:
    """Whom each example is mixed with: a random permutation of the batch.

    Args:
        key: One key for the batch.
        batch_size: Examples over all devices.

    Returns:
        Positions in the batch, int32 [batch_size]; some may be their own partner.
    """
    require_whole("batch_size", batch_size, 1)
    return jax.random.permutation(key, batch_size)


def mix(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    other_images: jax.Array,
    other_labels: jax.Array,
    mixing: Mixing,
) -> tuple[jax.Array, jax.Array]:
    """Mix each image and its label with those of its partner, in equal shares.

    * mixup: λ x + (1 − λ) x′ with λ ~ Beta(α, α).
    * CutMix: a box of x′ in x. Its centre is uniform, its sides are √(1 − λ) of the image's, cut
      off at the border, with λ ~ Beta(α, α); the label's share is that of the pixels.
    * VH-mixup: x above x′ at a random row and x left of x′ at a random column, each split uniform
      in {0..size − 1}, averaged with a uniform weight. It has no α.

    Every pair has a share of its own, where the published code of mixup and of CutMix draws one for
    the whole batch.

    Args:
        keys: Typed PRNG keys, [B]; each example draws from its own alone.
        images: float32 [B, H, W, C].
        labels: Distributions, float32 [B, K].
        other_images: The partners' images.
        other_labels: The partners' labels.
        mixing: The kind.

    Returns:
        Images and labels of the same shapes; unchanged for "none".

    Raises:
        ValueError: If a shape does not fit, or known labels are no distributions.
    """
    _check(keys, images, labels, other_images, other_labels)
    for distributions in (labels, other_labels):
        check_distributions("mix: labels", distributions)
    if mixing.kind == "none":
        return images, labels
    _, height, width, _ = images.shape
    size = height, width
    masks = {
        "mixup": lambda key: _mixup_mask(key, size, mixing.alpha),
        "cutmix": lambda key: _cutmix_mask(key, size, mixing.alpha),
        "vh_mixup": lambda key: _vh_mixup_mask(key, size),
    }
    own = jax.vmap(masks[mixing.kind])(keys)
    share = own.mean(axis=(1, 2))[:, None]
    own = own[..., None]
    return (
        own * images + (1 - own) * other_images,
        share * labels + (1 - share) * other_labels,
    )


def _check(
    keys: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    other_images: jax.Array,
    other_labels: jax.Array,
) -> None:
    if np.ndim(images) != 4 or np.shape(other_images) != images.shape:
        raise UserError(
            f"images={list(np.shape(images))}, other_images={list(np.shape(other_images))}: "
            "accepted are [B, H, W, C], twice the same"
        )
    batch = images.shape[0]
    fits = np.ndim(labels) == 2 and labels.shape[0] == batch
    if not fits or np.shape(other_labels) != labels.shape:
        raise UserError(
            f"labels={list(np.shape(labels))}, other_labels={list(np.shape(other_labels))}: "
            f"accepted are distributions [{batch}, K], twice the same shape"
        )
    require_keys(keys, batch)


def _mixup_mask(key: jax.Array, size: tuple[int, int], alpha: float) -> jax.Array:
    return jnp.full(size, jax.random.beta(key, alpha, alpha))


def _cutmix_mask(key: jax.Array, size: tuple[int, int], alpha: float) -> jax.Array:
    share_key, centre_key = jax.random.split(key)
    side = jnp.sqrt(1 - jax.random.beta(share_key, alpha, alpha))
    extent = jnp.array(size)
    centre = jnp.floor(jax.random.uniform(centre_key, (2,)) * extent).astype(jnp.int32)
    half = jnp.floor(side * extent).astype(jnp.int32) // 2
    first, last = jnp.clip(centre - half, 0, extent), jnp.clip(centre + half, 0, extent)
    rows, columns = jnp.arange(size[0]), jnp.arange(size[1])
    in_rows = (rows >= first[0]) & (rows < last[0])
    in_columns = (columns >= first[1]) & (columns < last[1])
    return 1.0 - (in_rows[:, None] & in_columns[None, :])


def _vh_mixup_mask(key: jax.Array, size: tuple[int, int]) -> jax.Array:
    row_key, column_key, weight_key = jax.random.split(key, 3)
    above = jnp.arange(size[0]) < jax.random.randint(row_key, (), 0, size[0])
    left = jnp.arange(size[1]) < jax.random.randint(column_key, (), 0, size[1])
    weight = jax.random.uniform(weight_key)
    return weight * above[:, None] + (1 - weight) * left[None, :]
