"""Steps of an attack on its active rows alone, a few at a time.

A row that has stopped is not computed again: each step gathers the rows that are still active into
chunks of a fixed size, and computes as many chunks as they fill. The time of the attack follows the
mean number of steps of its examples then. Every row must depend on itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Step = Callable[[Any], Any]


def repeat_on_active(step: Step, rows: Any, times: int | jax.Array, chunk: int) -> Any:
    """Applies `step` until no row is active, `times` times at most; inside jit or outside.

    Args:
      step: takes rows to rows; those that are inactive do not move.
      rows: pytree with a bool `[B]` leaf `active`; a leaf with an axis has the batch first, one
        without is shared by all rows and stays as it is.
      times: int, 0 or more; may be traced.
      chunk: rows that are computed together.

    Returns:
      The last rows.
    """

    def is_unfinished(state: tuple[Any, jax.Array]) -> jax.Array:
        rows, taken = state
        return (taken < times) & rows.active.any()

    def next_step(state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        rows, taken = state
        batch_size = len(rows.active)
        order = jnp.argsort(~rows.active, stable=True)
        # Positions beyond the batch fill up the last chunk.
        positions = jnp.pad(order, (0, -batch_size % chunk), constant_values=batch_size)
        chunks = (jnp.sum(rows.active) + chunk - 1) // chunk

        def next_chunk(number: jax.Array, rows: Any) -> Any:
            chosen = jax.lax.dynamic_slice_in_dim(positions, number * chunk, chunk)
            return step_at(step, rows, chosen)

        return jax.lax.fori_loop(0, chunks, next_chunk, rows), taken + 1

    rows, _ = jax.lax.while_loop(is_unfinished, next_step, (rows, jnp.zeros((), jnp.int32)))
    return rows


def abstract_chunk(rows: Any, size: int) -> Any:
    """Some of the rows, of which `size` are computed together, without their content."""
    return jax.eval_shape(
        lambda rows: jax.tree.map(lambda leaf: leaf[:size] if jnp.ndim(leaf) else leaf, rows), rows
    )


def step_at(step: Step, rows: Any, positions: jax.Array) -> Any:
    """Applies `step` to the rows at some positions.

    Args:
      step: as for `repeat_on_active`.
      rows: likewise.
      positions: int `[C]`, no two of them equal but for those that are B or more, which stand for
        no row.

    Returns:
      All rows.
    """

    def gathered(leaf: jax.Array) -> jax.Array:
        return leaf.at[positions].get(mode="clip") if jnp.ndim(leaf) else leaf

    def replaced(whole: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
        # What a step hands through is the same object afterwards; it need not be written.
        return whole if after is before else whole.at[positions].set(after, mode="drop")

    before = jax.tree.map(gathered, rows)
    return jax.tree.map(replaced, rows, before, step(before))
