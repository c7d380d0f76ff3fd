"""Gradient accumulation: a device's share of the batch in parts, one after another.

Attack and outer loss run part by part, so that only one part's activations are in memory; their
gradients are summed, and the optimiser makes one step. Up to rounding that is the step of the
whole batch where an example's loss depends on no other example:

* augmentation, mixing (mixup, CutMix), random starts and dropout are drawn by the position in the
  whole batch, before it is cut: they do not depend on the size of the parts;
* a method whose loss couples the examples of a batch (LRM's ratio of means, CLP's partners) would
  become another method, and is refused;
* batch norm takes the statistics of a part (if it is global, of that part on every device) where it
  takes those of the batch, and moves the running ones with the parts in turn, as gradient
  accumulation does elsewhere. Attacks with running statistics ("eval") use those from before the
  step throughout.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from robustjax import platforms
from robustjax.errors import UserError
from robustjax.methods import Method

PyTree = Any


def require_separable(method: Method, microbatch: int) -> None:
    """Refuses parts for a method that is defined on the whole batch.

    Raises:
      ValueError: names the flag and the method.
    """
    if microbatch and method.couples_rows:
        raise UserError(
            f"microbatch={microbatch}: the loss of method={method.name} as it is set couples "
            "the examples of a batch, and in parts it would be another; accepted is 0 (the whole "
            "batch), or a method whose examples are independent"
        )


def require_divisor(microbatch: int, device_batch: int) -> None:
    """Refuses parts that do not fill a device's share of the batch.

    Raises:
      ValueError: names the flag and the nearest sizes that fit.
    """
    if microbatch == 0 or (microbatch <= device_batch and device_batch % microbatch == 0):
        return
    fitting = [size for size in range(1, device_batch + 1) if device_batch % size == 0]
    accepted = ", ".join(map(str, fitting))
    raise UserError(
        f"microbatch={microbatch}: accepted are 0 (all at once) and the divisors of the "
        f"{device_batch} examples of a batch that each device has, {accepted}"
    )


def map_parts(function: Callable[[PyTree], PyTree], rows: PyTree, size: int) -> PyTree:
    """The result [B, ...] of a function of rows, computed `size` rows at a time.

    Args:
      function: takes and returns leaves whose first axis is the rows.
      rows: leaves [B, ...].
      size: of a part, a divisor of B; 0: all of them at once.
    """
    results, _, _ = sum_parts(lambda part, carry: (function(part), carry, ()), rows, (), (), size)
    return results


def sum_parts(
    function: Callable[[PyTree, PyTree], tuple[PyTree, PyTree, PyTree]],
    rows: PyTree,
    carry: PyTree,
    zero: PyTree,
    size: int,
) -> tuple[PyTree, PyTree, PyTree]:
    """Runs a function on one part of the rows after another, and adds up what is to be summed.

    Args:
      function: (part, carry) -> (results by row, carry, summand).
      rows: leaves [B, ...].
      carry: what every part hands to the next.
      zero: a summand of zeros.
      size: of a part, a divisor of B; 0: all rows at once.

    Returns:
      The results [B, ...] of all rows, the last carry, and the sum.
    """
    total = len(jax.tree.leaves(rows)[0])
    if size in (0, total):
        return function(rows, carry)

    def body(state: tuple[PyTree, PyTree], part: PyTree) -> tuple[tuple[PyTree, PyTree], PyTree]:
        results, carry, summand = function(part, state[0])
        return (carry, jax.tree.map(jnp.add, state[1], summand)), results

    count = total // size
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, size, *leaf.shape[1:]), rows)
    # jit keeps the trace, which the loops of both platforms take.
    body = jax.jit(body)

    def loop(state: PyTree, parts: PyTree, unroll: int = 1) -> tuple[PyTree, PyTree]:
        return jax.lax.scan(body, state, parts, unroll=unroll)

    # On a CPU XLA runs the gradients of convolutions many times slower inside a loop.
    unrolled = functools.partial(loop, unroll=count)
    (carry, summed), results = platforms.for_platform(
        (carry, zero), parts, cpu=unrolled, other=loop
    )
    results = jax.tree.map(lambda leaf: leaf.reshape(total, *leaf.shape[2:]), results)
    return results, carry, summed
