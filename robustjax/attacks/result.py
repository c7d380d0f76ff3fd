"""What every attack returns."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from robustjax.shapes import CountPerImage, Images, TruthPerImage


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttackResult:
    """Adversarial images and what became of them; a pytree.

    Attributes:
      images: float `[B, ...]`, inside the ball and the box.
      success: bool `[B]`, the model does not predict the label at `images` (logits that are NaN or
        +inf predict nothing); of a targeted attack, it predicts the target.
      backward_passes: int32 `[B]`, gradients whose step was tried, reverted ones included, over all
        restarts.
    """

    images: Images
    success: TruthPerImage
    backward_passes: CountPerImage

    @classmethod
    def empty(cls, images: jax.Array) -> AttackResult:
        """The result for no images, `[0, ...]`."""
        return cls(images, jnp.zeros(0, bool), jnp.zeros(0, jnp.int32))
