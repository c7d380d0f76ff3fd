"""The classes that a targeted attack aims at: the runners-up of the clean prediction."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from robustjax.losses._logits import at_class, class_mask


def runners_up(logits: jax.Array) -> jax.Array:
    """Every class but the predicted one, the likeliest first.

    Args:
      logits: `[B, K]`, at the clean images.

    Returns:
      int32 `[B, K - 1]`. Of equal logits the class of the smaller number comes first.
    """
    return jnp.argsort(-logits, axis=-1, stable=True)[:, 1:].astype(jnp.int32)


def checked_targets(num_targets: int, num_classes: int) -> int:
    """Sees that there are as many wrong classes as targets.

    Raises:
      ValueError: there are not; the message says how many there are.
    """
    if num_targets > num_classes - 1:
        raise ValueError(
            f"num_targets is {num_targets}, and logits_fn gives {num_classes} classes; "
            f"it must be at most {num_classes - 1}, the number of wrong ones"
        )
    return num_targets


def lead_of_target(logits: jax.Array, target: tuple[jax.Array, jax.Array]) -> jax.Array:
    """How far the target class is ahead of the true one: z_t - z_y.

    Args:
      logits: `[B, K]`.
      target: labels and target classes, int `[B]` each.

    Returns:
      `[B]`.
    """
    of_label, of_target = (at_class(logits, class_mask(part, logits.shape[-1])) for part in target)
    return of_target - of_label
