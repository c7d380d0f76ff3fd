"""How an attack's step is repeated, on each platform.

An iterative attack is a start, a pure step and a result over one pytree of rows (current image,
previous image, clean image, label, epsilon, state of the stop rule and so on, each with a leading
axis of the batch). That is all an attack says; how often and in what form the step runs is decided
here:

* inside a transformation (jit, pmap, vmap, grad): `lax.scan`, which on CPU is unrolled in full for
  a short attack on a model whose gradient would be slow in a loop (see `repeat`);
* outside: one jitted call of a loop, which ends when no example is active;
* outside, on CPU, for a model whose gradient would be slow in a loop: a Python loop over one jitted
  step, with the same end.

A loop inside of a program is the faster one: XLA on CPU allocates the memory of a program anew at
each call, and what depends on the weights alone is computed once.

Where rows do not depend on each other and stop at different times, only the active ones are
computed (`robustjax.attacks.engine.compaction`), in chunks:

* on CPU of 16 rows, which are as fast as larger ones (their activations stay in the caches) and
  leave half a chunk idle on average;
* on an accelerator of a quarter of the batch: smaller ones would leave it half empty, and larger
  ones save little.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from robustjax.attacks.engine import captured_arrays, compaction

# Unrolled, a program grows with its steps. Training's attacks take up to 40.
LONGEST_UNROLLED = 40

ROWS_ON_CPU = 16
"""Of a chunk."""


class _Plan(NamedTuple):
    """How often an attack begins anew, and whether its steps are run on active rows alone."""

    restarts: int
    compact: bool


class _Models(NamedTuple):
    """A model for the whole batch, and for the rows of a chunk: lifted, it has one shape."""

    batch: Callable[..., Any]
    chunk: Callable[..., Any]


class IterativeAttack(Protocol):
    """The parts of an attack. Hashable: two equal attacks are one program.

    `model` is a callable on rows' images, whatever the attack needs of the network (often loss and
    gradient); `inputs` a pytree of arrays; `rows` a pytree with a bool `[B]` leaf named `active`,
    of one structure throughout; `kept` is what outlives a restart.
    """

    def nothing_kept(self, inputs: Any) -> Any:
        """What is kept before the first of several restarts; unused with one."""
        ...

    def start(self, inputs: Any, kept: Any, restart: jax.Array) -> Any:
        """The rows at the start of a restart; `kept` is None if there is only one."""
        ...

    def step(self, model: Callable[..., Any], rows: Any) -> Any:
        """The rows after one step; inactive rows do not move."""
        ...

    def result(self, model: Callable[..., Any], rows: Any, kept: Any) -> Any:
        """What is kept after a restart."""
        ...


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
    plan = _Plan(restarts, compact)
    if _tracing((examples, inputs, model)):
        return _traced(attack, _Models(model, model), inputs, steps, plan)
    models = _lifted(model, examples, compact)
    if models is None:
        return _traced(attack, _Models(model, model), inputs, steps, plan)
    structure = jax.tree.structure((models, inputs))
    programs = _compile(attack, structure)
    if _on_cpu() and _must_be_driven(attack, structure, abstract((models, inputs))):
        return _driven(_compile_start(attack), programs, models, inputs, steps, plan)
    return programs.whole(models, inputs, np.int32(steps), plan)


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


def _lifted(model: Callable[..., Any], examples: tuple[Any, ...], compact: bool) -> _Models | None:
    """The model as pytrees of arrays; None if it cannot be lifted."""
    if is_array_partial(model):
        return _Models(model, model)
    batch = captured_arrays.lift(model, *examples)
    if batch is None or not compact:
        return batch and _Models(batch, batch)
    size = _rows_of_a_chunk(len(jax.tree.leaves(examples)[0]))
    return _Models(
        batch, captured_arrays.lift(model, *jax.tree.map(lambda rows: rows[:size], examples))
    )


def is_array_partial(function: Any) -> bool:
    """Whether a callable is a `jax.tree_util.Partial` and all its leaves are arrays."""
    return isinstance(function, jax.tree_util.Partial) and all(
        isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(function)
    )


def repeat(
    body: Callable[[Any], Any], state: Any, times: int, *, steps_in_all: int | None = None
) -> Any:
    """Applies `body` to the state `times` times, inside a transformation.

    A plain loop, with one exception. XLA on CPU runs the gradient of a convolution 12 to 75 times
    slower inside a loop than outside (jax-ml/jax issue 12868), and unrolling in part does not help.
    So there a body with such a gradient is unrolled in full, if that makes at most 40 steps; beyond
    that the program would take too long to compile, and the slow loop stays. The networks of
    `robustjax.models` write their gradients otherwise, and need none of this.

    Args:
      body: takes the state to one of the same structure, shapes and dtypes.
      state: pytree of arrays.
      times: int, 0 or more.
      steps_in_all: the steps of an attack in all loops, of which this is one: nested loops are
        unrolled together or not at all. None: `times`.

    Returns:
      The last state.
    """
    unroll = 1
    if _on_cpu() and 1 < max(times, steps_in_all or 0) <= LONGEST_UNROLLED:
        # jit keeps the trace, so that looking into the body does not cost a second one.
        body = jax.jit(body)
        if is_slow_in_a_loop(body, state):
            unroll = max(times, 1)
    state, _ = jax.lax.scan(
        lambda carry, _: (body(carry), None), state, None, length=times, unroll=unroll
    )
    return state


def is_slow_in_a_loop(body: Callable[..., Any], *arguments: Any) -> bool:
    """Whether XLA on CPU would run the body slowly in a loop: it holds a convolution's gradient."""
    return _holds_gradient(jax.make_jaxpr(body)(*arguments).jaxpr)


def _holds_gradient(program: Any) -> bool:
    """Whether a jaxpr, or one that it calls, holds a transposed convolution."""
    if isinstance(program, tuple | list):
        return any(_holds_gradient(entry) for entry in program)
    if not isinstance(program, core.Jaxpr | core.ClosedJaxpr):
        return False
    return any(
        (equation.primitive.name == "conv_general_dilated" and not _is_plain(equation))
        or any(_holds_gradient(value) for value in equation.params.values())
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


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _tracing(arguments: Any) -> bool:
    """Whether a transformation is in progress that this computation belongs to."""
    leaves = jax.tree.leaves(arguments)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return True
    # Under jit every operation yields a tracer, even one on constants.
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def _traced(attack: IterativeAttack, models: _Models, inputs: Any, steps: int, plan: _Plan) -> Any:
    """The attack inside of a program that others write, and may differentiate."""
    in_all = steps * plan.restarts

    def step(rows):
        return attack.step(models.batch, rows)

    def restart(kept, number):
        rows = attack.start(inputs, kept, number)
        if plan.compact and not (_on_cpu() and is_slow_in_a_loop(step, rows)):
            rows = _repeat_on_active(attack.step, models, rows, steps)
        else:
            rows = repeat(step, rows, steps, steps_in_all=in_all)
        return attack.result(models.batch, rows, kept)

    if plan.restarts == 1:
        return restart(None, jnp.zeros((), jnp.int32))
    kept, _ = repeat(
        lambda state: (restart(*state), state[1] + 1),
        (attack.nothing_kept(inputs), jnp.zeros((), jnp.int32)),
        plan.restarts,
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
        if plan.compact:
            rows = _repeat_on_active(step, models, rows, steps)
        else:
            rows, _ = jax.lax.while_loop(
                lambda state: (state[1] < steps) & state[0].active.any(),
                lambda state: (step(models.batch, state[0]), state[1] + 1),
                (rows, jnp.zeros((), jnp.int32)),
            )
        return attack.result(models.batch, rows, kept)

    if plan.restarts == 1:
        return restart(jnp.zeros((), jnp.int32), None)
    return jax.lax.fori_loop(0, plan.restarts, restart, attack.nothing_kept(inputs))


def _repeat_on_active(
    step: Callable[..., Any], models: _Models, rows: Any, steps: int | jax.Array
) -> Any:
    chunk = _rows_of_a_chunk(len(rows.active))
    return compaction.repeat_on_active(lambda rows: step(models.chunk, rows), rows, steps, chunk)


@functools.lru_cache(maxsize=256)
def _must_be_driven(
    attack: IterativeAttack, structure: Any, leaves: tuple[jax.ShapeDtypeStruct, ...]
) -> bool:
    models, inputs = jax.tree.unflatten(structure, leaves)
    rows = jax.eval_shape(lambda inputs: attack.start(inputs, None, np.int32(0)), inputs)
    # The same function as in the program, since jit keeps its trace.
    return is_slow_in_a_loop(_compile(attack, structure).step, models.batch, rows)


def abstract(arguments: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
    """What a program for these arguments depends on, but for their structure."""
    return tuple(
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
        for leaf in jax.tree.leaves(arguments)
    )


def _driven(
    begin: _StartPrograms,
    programs: _Programs,
    models: _Models,
    inputs: Any,
    steps: int,
    plan: _Plan,
) -> Any:
    kept = begin.nothing_kept(inputs) if plan.restarts > 1 else None
    for restart in range(plan.restarts):
        rows = begin.start(inputs, kept, np.int32(restart))
        for _ in range(steps):
            active = np.flatnonzero(rows.active)
            if not len(active):
                break
            if not plan.compact:
                rows = programs.step(models.batch, rows)
                continue
            chunk = _rows_of_a_chunk(len(rows.active))
            for positions in _chunks(active, chunk, len(rows.active)):
                rows = programs.step_at(models.chunk, rows, positions)
        kept = programs.result(models.batch, rows, kept)
    return kept


def _rows_of_a_chunk(batch_size: int) -> int:
    return min(ROWS_ON_CPU, batch_size) if _on_cpu() else -(-batch_size // 4)


def _chunks(positions: np.ndarray, size: int, nowhere: int) -> np.ndarray:
    """Positions in rows of one size, the last of them filled up with a position of no row."""
    filled = np.pad(positions, (0, -len(positions) % size), constant_values=nowhere)
    return filled.reshape(-1, size)


class _StartPrograms(NamedTuple):
    nothing_kept: Callable[..., Any]
    start: Callable[..., Any]


class _Programs(NamedTuple):
    step: Callable[..., Any]
    step_at: Callable[..., Any]
    result: Callable[..., Any]
    whole: Callable[..., Any]


# JAX frees the compiled code of a jitted function together with it, so that the bounds of these two
# caches bound its memory. A new function per entry: jit shares code between equal functions.


@functools.lru_cache(maxsize=32)
def _compile_start(attack: IterativeAttack) -> _StartPrograms:
    """The jitted parts of an attack that do without the model, and so serve all models."""
    return _StartPrograms(
        nothing_kept=jax.jit(lambda inputs: attack.nothing_kept(inputs)),
        start=jax.jit(lambda inputs, kept, restart: attack.start(inputs, kept, restart)),
    )


@functools.lru_cache(maxsize=32)
def _compile(attack: IterativeAttack, structure: Any) -> _Programs:
    """The jitted parts of an attack for models and inputs of one structure."""
    del structure
    step = jax.jit(lambda model, rows: attack.step(model, rows))
    return _Programs(
        step=step,
        step_at=jax.jit(
            lambda model, rows, positions: compaction.step_at(
                lambda chunk: attack.step(model, chunk), rows, positions
            )
        ),
        result=jax.jit(lambda model, rows, kept: attack.result(model, rows, kept)),
        whole=jax.jit(
            lambda models, inputs, steps, plan: _whole(attack, step, models, inputs, steps, plan),
            static_argnums=3,
        ),
    )
