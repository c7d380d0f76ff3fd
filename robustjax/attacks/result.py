"""What every attack returns."""

from __future__ import annotations

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttackResult:
    """Adversarial images and what became of them; a pytree.

    Attributes:
      images: float `[B, ...]`, inside the ball and the box.
      success: bool `[B]`, the model's argmax at `images` differs from the label.
      backward_passes: int32 `[B]`, gradients whose step was tried, reverted ones included, over all
        restarts.
    """

    images: jax.Array
    success: jax.Array
    backward_passes: jax.Array
