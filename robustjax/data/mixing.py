"""Mixing of each image and its label with another's: mixup, VH-mixup and CutMix, on the device."""

import dataclasses

import jax
import jax.numpy as jnp

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
        if self.kind not in KINDS:
            raise ValueError(f"mixing must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"the mixing's alpha must be more than 0, got {self.alpha!r}")


def partners(key: jax.Array, batch_size: int) -> jax.Array:
    """Whom each example is mixed with: a random permutation of the batch.

    Args:
        key: One key for the batch.
        batch_size: Examples over all devices.

    Returns:
        Positions in the batch, int32 [batch_size]; some may be their own partner.
    """
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
        ValueError: If a shape does not fit.
    """
    _check(keys, images, labels, other_images, other_labels)
    if mixing.kind == "none":
        return images, labels
    size = images.shape[1:3]
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
    if images.ndim != 4 or other_images.shape != images.shape:
        raise ValueError(
            f"images and other_images must both be [B, H, W, C], got {list(images.shape)} and "
            f"{list(other_images.shape)}"
        )
    batch = images.shape[0]
    if labels.ndim != 2 or labels.shape[0] != batch or other_labels.shape != labels.shape:
        raise ValueError(
            f"labels and other_labels must both be distributions [{batch}, K], got "
            f"{list(labels.shape)} and {list(other_labels.shape)}"
        )
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.shape != (batch,):
        raise ValueError(
            f"keys must be {batch} typed PRNG keys, one per image, got {keys.dtype} "
            f"{list(keys.shape)}"
        )


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
