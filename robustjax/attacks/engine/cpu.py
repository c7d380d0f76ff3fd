"""All that attacks are on a CPU because of how XLA compiles for it.

It runs the gradient of a convolution 12 to 75 times slower inside a loop than outside of one
(jax-ml/jax issue 12868), and unrolling in part does not help. The networks of `robustjax.models`
write their gradients otherwise, and need none of this; an attack on another one that is slow is

* unrolled in full inside a transformation, if that makes at most 40 steps: beyond that the program
  would take too long to compile, and the slow loop stays;
* driven by the host outside of one: a Python loop over one jitted step.

Where a loop inside of a program is not slow, it is up to twice as fast as a driven one: XLA on CPU
allocates the memory of a program anew at each call, and what depends on the weights alone is
computed once.

Chunks of active rows have 16 there, which are as fast as larger ones (their activations stay in the
caches) and leave half a chunk idle on average.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from robustjax import platforms
from robustjax.attacks.engine import compaction
from robustjax.attacks.engine.iterative_attack import IterativeAttack

# Unrolled, a program grows with its steps. Training's attacks take up to 40.
LONGEST_UNROLLED = 40

ROWS_OF_A_CHUNK = 16


def rows_of_a_chunk(batch_size: int) -> int:
    """How many active rows are computed together."""
    return min(ROWS_OF_A_CHUNK, batch_size)


def is_unrolled(steps: int) -> bool:
    """Whether so many steps are few enough, and enough, to be unrolled where a loop is slow."""
    return 1 < steps <= LONGEST_UNROLLED


def is_slow_in_a_loop(body: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a loop over the body would be slow on a CPU: it holds a convolution's gradient."""
    return _holds_gradient(jax.make_jaxpr(body)(*arguments).jaxpr)


def _holds_gradient(program: Any) -> bool:
    """Whether a jaxpr, or one that it calls on a CPU, holds a transposed convolution."""
    if isinstance(program, tuple | list):
        return any(_holds_gradient(entry) for entry in program)
    if not isinstance(program, core.Jaxpr | core.ClosedJaxpr):
        return False
    return any(
        (equation.primitive.name == "conv_general_dilated" and not _is_plain(equation))
        or any(_holds_gradient(value) for value in platforms.parameters_on_cpu(equation))
        for equation in program.eqns
    )


def _is_plain(convolution: Any) -> bool:
    """Whether a convolution is one that a network's forward pass writes.

    JAX writes the gradient of the inputs with the kernel's two axes of channels exchanged, and that
    of the kernel with the batch for channels; with strides it puts zeros in between.
    """
    inputs, kernel, _ = convolution.params["dimension_numbers"]
    return (
        inputs[0] == 0
        and kernel[0] in (0, len(kernel) - 1)
        and set(convolution.params["lhs_dilation"]) == {1}
    )


class Parts(NamedTuple):
    """The jitted parts of an attack that ask the model."""

    step: Callable[..., Any]
    step_at: Callable[..., Any]
    result: Callable[..., Any]


class _StartParts(NamedTuple):
    """Those that do without the model, and so serve all models."""

    nothing_kept: Callable[..., Any]
    start: Callable[..., Any]


# JAX frees the compiled code of a jitted function together with it, so that the bounds of these two
# caches bound its memory. A new function per entry: jit shares code between equal functions.


@functools.lru_cache(maxsize=32)
def parts(attack: IterativeAttack, structure: Any) -> Parts:
    """The jitted parts of an attack for models and inputs of one structure."""
    del structure
    return Parts(
        step=jax.jit(lambda model, rows: attack.step(model, rows)),
        step_at=jax.jit(
            lambda model, rows, positions: compaction.step_at(
                lambda chunk: attack.step(model, chunk), rows, positions
            )
        ),
        result=jax.jit(lambda model, rows, kept: attack.result(model, rows, kept)),
    )


@functools.lru_cache(maxsize=32)
def _start_parts(attack: IterativeAttack) -> _StartParts:
    return _StartParts(
        nothing_kept=jax.jit(lambda inputs: attack.nothing_kept(inputs)),
        start=jax.jit(lambda inputs, kept, restart: attack.start(inputs, kept, restart)),
    )


@functools.lru_cache(maxsize=256)
def must_be_driven(
    attack: IterativeAttack, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> bool:
    """Whether a step is slow in a loop.

    Args:
      attack: the parts of the attack.
      structure: of the pair of its models and its inputs.
      leaves: of the same pair, without their content.
    """
    models, inputs = jax.tree.unflatten(structure, leaves)
    rows = jax.eval_shape(lambda inputs: attack.start(inputs, None, np.int32(0)), inputs)
    # The same function as in the program, since jit keeps its trace.
    return is_slow_in_a_loop(parts(attack, structure).step, models.batch, rows)


def drive(
    attack: IterativeAttack, models: Any, inputs: Any, steps: int, restarts: int, chunk: int
) -> Any:
    """Runs an attack step by step from the host, which ends it when no example is active.

    Args:
      attack: the parts of the attack.
      models: of the network, for the whole batch and for a chunk.
      inputs: of the attack.
      steps: of each restart.
      restarts: how often it begins anew.
      chunk: active rows that are computed together; 0: always all rows.

    Returns:
      What is kept after the last restart.
    """
    begin, programs = _start_parts(attack), parts(attack, jax.tree.structure((models, inputs)))
    kept = begin.nothing_kept(inputs) if restarts > 1 else None
    for restart in range(restarts):
        rows = begin.start(inputs, kept, np.int32(restart))
        for _ in range(steps):
            active = np.flatnonzero(rows.active)
            if not len(active):
                break
            if not chunk:
                rows = programs.step(models.batch, rows)
                continue
            for positions in _chunks(active, chunk, len(rows.active)):
                rows = programs.step_at(models.chunk, rows, positions)
        kept = programs.result(models.batch, rows, kept)
    return kept


def _chunks(positions: np.ndarray, size: int, nowhere: int) -> np.ndarray:
    """Positions in rows of one size, the last of them filled up with a position of no row."""
    filled = np.pad(positions, (0, -len(positions) % size), constant_values=nowhere)
    return filled.reshape(-1, size)
