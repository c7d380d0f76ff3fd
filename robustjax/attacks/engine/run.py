"""How an attack's step is repeated, on each platform.

An iterative attack is a start, a pure step and a result over one pytree of rows (current image,
previous image, clean image, label, epsilon, state of the stop rule and so on, each with a leading
axis of the batch). That is all an attack says; how often and in what form the step runs is decided
here:

* inside a transformation (jit, pmap, vmap, grad): `lax.scan`;
* outside: one jitted call of a loop, which ends when no example is active.

Where rows do not depend on each other and stop at different times, only the active ones are
computed on request (`robustjax.attacks.engine.compaction`), in chunks of a quarter of the batch:
smaller ones would leave an accelerator half empty, and larger ones save little.

What is otherwise on a CPU is in `robustjax.attacks.engine.cpu`. Inside a transformation it depends
on where the program is compiled for, outside on where this process computes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import platforms
from robustjax.attacks.engine import captured_arrays, compaction, cpu
from robustjax.attacks.engine.casts import cast_before
from robustjax.attacks.engine.iterative_attack import IterativeAttack
from robustjax.cache import enable_compilation_cache


class _Plan(NamedTuple):
    """How often an attack begins anew, and how many active rows are computed together.

    `chunk` is 0 where all rows are computed, active or not.
    """

    restarts: int
    chunk: int


class _Models(NamedTuple):
    """A model for the whole batch, and for the rows of a chunk: lifted, it has one shape."""

    batch: Callable[..., Any]
    chunk: Callable[..., Any]


def run(
    attack: IterativeAttack,
    model: Callable[..., Any],
    examples: tuple[Any, ...],
    inputs: Any,
    steps: int,
    restarts: int = 1,
    *,
    compact: bool = False,
) -> Any:
    """Runs an attack: `restarts` times a start, `steps` steps and a result.

    Args:
      attack: the parts of the attack.
      model: a `jax.tree_util.Partial` whose leaves are arrays is used as it is, and recognised by
        its static function as jit does it. Any other callable is traced at each call.
      examples: arguments like those that the attack calls `model` with.
      inputs: pytree of arrays that `attack.start` takes.
      steps: how often the step is repeated at most, 0 or more.
      restarts: how often the attack begins anew, 1 or more.
      compact: whether only active rows are computed; each must depend on itself alone.

    Returns:
      What is kept after the last restart.
    """
    if _tracing((examples, inputs, model)):
        return _traced(attack, _Models(model, model), inputs, steps, restarts, compact)
    enable_compilation_cache()
    on_cpu = platforms.of_process() == "cpu"
    rows_of_a_chunk = cpu.rows_of_a_chunk if on_cpu else _rows_of_a_chunk
    chunk = rows_of_a_chunk(len(jax.tree.leaves(examples)[0])) if compact else 0
    models = _lifted(model, examples, chunk)
    if models is None:
        return _traced(attack, _Models(model, model), inputs, steps, restarts, compact)
    structure = jax.tree.structure((models, inputs))
    if on_cpu and cpu.must_be_driven(attack, structure, abstract((models, inputs))):
        return cpu.drive(attack, models, inputs, steps, restarts, chunk)
    return _compile(attack, structure)(models, inputs, np.int32(steps), _Plan(restarts, chunk))


def apply(model: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a model once: compiled, and with its arrays as arguments, unless inside jit."""
    if _tracing((arguments, model)):
        return model(*arguments)
    if not is_array_partial(model):
        lifted = captured_arrays.lift(model, *arguments)
        if lifted is None:
            return model(*arguments)
        model = lifted
    return _call(model, *arguments)


@jax.jit
def _call(model: Callable[..., Any], *arguments: Any) -> Any:
    return model(*arguments)


def _lifted(model: Callable[..., Any], examples: tuple[Any, ...], chunk: int) -> _Models | None:
    """The model as pytrees of arrays; None if it cannot be lifted."""
    if is_array_partial(model):
        return _Models(model, model)
    batch = captured_arrays.lift(model, *examples)
    if batch is None or not chunk:
        return None if batch is None else _Models(batch, batch)
    of_chunk = captured_arrays.lift(model, *jax.tree.map(lambda rows: rows[:chunk], examples))
    return None if of_chunk is None else _Models(batch, of_chunk)


def is_array_partial(function: Any) -> bool:
    """Whether a callable is a `jax.tree_util.Partial` and all its leaves are arrays."""
    return isinstance(function, jax.tree_util.Partial) and all(
        isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(function)
    )


def repeat(
    body: Callable[[Any], Any], state: Any, times: int, *, steps_in_all: int | None = None
) -> Any:
    """Applies `body` to the state `times` times, inside a transformation.

    A loop, but where it is compiled for a CPU and would be slow there: see `engine.cpu`.

    Args:
      body: takes the state to one of the same structure, shapes and dtypes.
      state: pytree of arrays.
      times: int, 0 or more.
      steps_in_all: the steps of an attack in all loops, of which this is one: nested loops are
        unrolled together or not at all. None: `times`.

    Returns:
      The last state.
    """
    # jit keeps the trace, so that looking into the body does not cost a second one.
    body = cast_before(jax.jit(body), state)

    def loop(state: Any, unroll: int = 1) -> Any:
        state, _ = jax.lax.scan(
            lambda carry, _: (body(carry), None), state, None, length=times, unroll=unroll
        )
        return state

    if cpu.is_unrolled(max(times, steps_in_all or 0)) and cpu.is_slow_in_a_loop(body, state):
        unrolled = functools.partial(loop, unroll=max(times, 1))
        return platforms.for_platform(state, cpu=unrolled, other=loop)
    return loop(state)


def _tracing(arguments: Any) -> bool:
    """Whether a transformation is in progress that this computation belongs to."""
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return True
    # Under jit every operation yields a tracer, even one on constants.
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def _traced(
    attack: IterativeAttack, models: _Models, inputs: Any, steps: int, restarts: int, compact: bool
) -> Any:
    """The attack inside of a program that others write, and may differentiate."""
    in_all = steps * restarts

    def masked(rows):
        step = functools.partial(attack.step, models.batch)
        return repeat(step, rows, steps, steps_in_all=in_all)

    def compacted(rows):
        # jit keeps the trace of a chunk, as in `repeat`.
        step = jax.jit(functools.partial(attack.step, models.chunk))

        def in_chunks(rows, size):
            of_chunk = cast_before(step, compaction.abstract_chunk(rows, size))
            return compaction.repeat_on_active(of_chunk, rows, steps, size)

        batch_size = len(rows.active)
        on_cpu, elsewhere = cpu.rows_of_a_chunk(batch_size), _rows_of_a_chunk(batch_size)
        other = functools.partial(in_chunks, size=elsewhere)
        if cpu.is_slow_in_a_loop(step, compaction.abstract_chunk(rows, on_cpu)):
            return platforms.for_platform(rows, cpu=masked, other=other)
        if on_cpu == elsewhere:
            return other(rows)
        return platforms.for_platform(
            rows, cpu=functools.partial(in_chunks, size=on_cpu), other=other
        )

    def restart(kept, number):
        rows = attack.start(inputs, kept, number)
        rows = compacted(rows) if compact else masked(rows)
        return attack.result(models.batch, rows, kept)

    if restarts == 1:
        return restart(None, jnp.zeros((), jnp.int32))
    kept, _ = repeat(
        lambda state: (restart(*state), state[1] + 1),
        (attack.nothing_kept(inputs), jnp.zeros((), jnp.int32)),
        restarts,
        steps_in_all=in_all,
    )
    return kept


def _whole(
    attack: IterativeAttack,
    step: Callable[..., Any],
    models: _Models,
    inputs: Any,
    steps: jax.Array,
    plan: _Plan,
) -> Any:
    """The attack as a program of its own, which ends when no example is active.

    Args:
      attack: the parts of the attack.
      step: `attack.step`, jitted: it has been traced before.
      models: of the network.
      inputs: of the attack.
      steps: int32, traced, so that another number of them is the same program.
      plan: static.
    """

    def restart(number, kept):
        rows = attack.start(inputs, kept, number)
        if plan.chunk:
            example = compaction.abstract_chunk(rows, plan.chunk)
            of_chunk = cast_before(functools.partial(step, models.chunk), example)
            rows = compaction.repeat_on_active(of_chunk, rows, steps, plan.chunk)
        else:
            of_batch = cast_before(functools.partial(step, models.batch), rows)
            rows, _ = jax.lax.while_loop(
                lambda state: (state[1] < steps) & state[0].active.any(),
                lambda state: (of_batch(state[0]), state[1] + 1),
                (rows, jnp.zeros((), jnp.int32)),
            )
        return attack.result(models.batch, rows, kept)

    if plan.restarts == 1:
        return restart(jnp.zeros((), jnp.int32), None)
    return jax.lax.fori_loop(0, plan.restarts, restart, attack.nothing_kept(inputs))


def _rows_of_a_chunk(batch_size: int) -> int:
    return -(-batch_size // 4)


def abstract(arguments: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """What a program for these arguments depends on, but for their structure."""
    return tuple(
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
        for leaf in jax.tree.leaves(arguments)
    )


# Bounded as the caches of `engine.cpu` are, whose step it takes: that has been traced before.
@functools.lru_cache(maxsize=32)
def _compile(attack: IterativeAttack, structure: Any) -> Callable[..., Any]:
    """The whole attack, jitted, for models and inputs of one structure."""
    step = cpu.parts(attack, structure).step
    return jax.jit(
        lambda models, inputs, steps, plan: _whole(attack, step, models, inputs, steps, plan),
        static_argnums=3,
    )
