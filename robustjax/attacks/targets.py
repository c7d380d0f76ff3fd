"""The classes that a targeted attack aims at: the runners-up of the clean prediction."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from robustjax.attacks import _checks as checks
from robustjax.losses._logits import at_class, class_mask


def runners_up(logits: jax.Array) -> jax.Array:
    """Every class but the predicted one, the likeliest first.

    Args:
      logits: `[B, K]`, at the clean images.

    Returns:
      int32 `[B, K - 1]`. Of equal logits the class of the smaller number comes first.
    """
    return jnp.argsort(-logits, axis=-1, stable=True)[:, 1:].astype(jnp.int32)


def checked_first_target(
    first_target: Any, num_targets: int, num_wrong: int, batch_size: int
) -> jax.Array:
    """Sees that there are as many wrong classes as targets, and enough after the first of them.

    Args:
      first_target: how many runners-up are passed over, an integer or `[B]`; may be traced.
      num_targets: how many follow.
      num_wrong: the number of wrong classes.
      batch_size: B.

    Returns:
      `first_target` as int32, a scalar or `[B]`.

    Raises:
      ValueError: there are too few classes, or `first_target` is no integer or out of range.
    """
    if num_targets > num_wrong:
        raise ValueError(
            f"num_targets is {num_targets}, and logits_fn gives {num_wrong + 1} classes; "
            f"it must be at most {num_wrong}, the number of wrong ones"
        )
    first = jnp.asarray(first_target)
    if first.shape not in ((), (batch_size,)) or not jnp.issubdtype(first.dtype, jnp.integer):
        raise ValueError(
            f"first_target is {first_target!r}; it must be an integer, or one for each of the "
            f"{batch_size} images"
        )
    value = checks.known(first_target)
    if value is not None and not ((value >= 0) & (value <= num_wrong - num_targets)).all():
        raise ValueError(
            f"first_target is {first_target} with num_targets {num_targets}, and logits_fn gives "
            f"{num_wrong + 1} classes; it must lie between 0 and {num_wrong - num_targets}"
        )
    return first.astype(jnp.int32)


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
