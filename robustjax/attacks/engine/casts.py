"""Casts a loop's arrays from outside once, before the loop, where its body would at every turn.

A network in bfloat16 has its weights in float32 and casts them in each pass. XLA moves that out of
the attack's loop for TPUs and not for GPUs, where WRN-34-10 writes 92 MB in every step for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core


def cast_before(body: Callable[[Any], Any], state: Any) -> Callable[[Any], Any]:
    """The body of a loop with the casts to smaller types done of what it has from outside.

    Args:
      body: jitted; takes the state to another. What it closes over does not change in the loop.
      state: pytree of arrays, or of their shapes.

    Returns:
      A function of the same results, for the same surrounding trace; the body itself if it casts
      nothing from outside.
    """
    traced, shapes = jax.make_jaxpr(body, return_shape=True)(state)
    if [equation.primitive.name for equation in traced.eqns] != ["jit"]:
        return body  # Under `jax.disable_jit`, or because it does nothing.
    (call,) = traced.eqns
    program = call.params["jaxpr"].jaxpr
    outside = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    given = dict(zip(program.invars, call.invars, strict=True))
    casts = [equation for equation in program.eqns if _is_cast(equation, given, outside)]
    if not casts:
        return body
    cast = [outside[given[each.invars[0]]].astype(each.params["new_dtype"]) for each in casts]
    without = program.replace(
        invars=[*(each.outvars[0] for each in casts), *program.invars],
        eqns=[each for each in program.eqns if not _is_cast(each, given, outside)],
        debug_info=program.debug_info.with_unknown_names(),
    )
    run = core.jaxpr_as_fun(core.ClosedJaxpr(without, call.params["jaxpr"].consts))

    @jax.jit
    def cast_body(state: Any) -> Any:
        values = outside | dict(zip(traced.jaxpr.invars, jax.tree.leaves(state), strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, core.Literal) else values[atom]

        values |= zip(call.outvars, run(*cast, *map(read, call.invars)), strict=True)
        return jax.tree.unflatten(jax.tree.structure(shapes), map(read, traced.jaxpr.outvars))

    return cast_body


def _is_cast(equation: core.JaxprEqn, given: dict[Any, Any], outside: dict[Any, Any]) -> bool:
    if equation.primitive.name != "convert_element_type":
        return False
    before: Any = equation.invars[0]
    after: Any = equation.outvars[0]
    if isinstance(before, core.Literal) or given.get(before) not in outside:
        return False
    return after.aval.dtype.itemsize < before.aval.dtype.itemsize
