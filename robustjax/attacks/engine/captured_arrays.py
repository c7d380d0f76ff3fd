"""Turns any callable into a pytree: a program that depends on structure alone, and its arrays.

A closure's arrays would be constants of whatever is compiled around it: slow to fold, and compiled
again for every model. Here a callable is traced, every array it captured becomes an argument, and
what is left is compared by its content, so that one compilation serves all models of one shape.

The content is compared parameter by parameter, not by a digest of the printed or lowered program:
what JAX prints leaves out arrays inside of loops and branches, and both leave out which function of
the host a callback calls, so that different networks would be taken for one.

Callables are traced anew each time and never recognised by identity, because what a closure or a
bound method captured may have changed since.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

# Equations that only call another program, and the parameter that holds it. Anything else that
# contains programs (loops, branches, rematerialisation) is kept whole.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
# The callables that hold their derivative rules are new in every trace, and programs with them
# never compare equal: they are opened up. Those of JAX say what differentiation finds anyway;
# others have been applied by the time that the program of a gradient gets here.
_DIFFERENTIATED = {"custom_jvp_call", "custom_vjp_call"}


_JAX = os.path.dirname(os.path.abspath(jax.__file__)) + os.sep


def equations(program: Any) -> Iterator[core.JaxprEqn]:
    """All equations of a jaxpr and of those that it calls."""
    if isinstance(program, tuple | list):
        for entry in program:
            yield from equations(entry)
    if isinstance(program, core.Jaxpr | core.ClosedJaxpr):
        for equation in program.eqns:
            yield equation
            for value in equation.params.values():
                yield from equations(value)


def has_own_gradient(function: Callable[..., Any], *examples: Any) -> bool:
    """Whether a function has a derivative rule (`custom_jvp`, `custom_vjp`) that is not of JAX.

    Such are straight-through estimators. To `lift` the function would lose the rule.

    Args:
      function: as for `lift`.
      *examples: as for `lift`.
    """
    return any(
        not str(_called(equation).debug_info.func_filename).startswith(_JAX)
        for equation in equations(jax.make_jaxpr(function)(*examples))
        if equation.primitive.name in _DIFFERENTIATED
    )


def _called(equation: core.JaxprEqn) -> core.Jaxpr:
    program = equation.params["call_jaxpr"]
    return program.jaxpr if isinstance(program, core.ClosedJaxpr) else program


def lift(function: Callable[..., Any], *examples: Any) -> jax.tree_util.Partial | None:
    """Traces a function and pulls the arrays that it captured out of it.

    Arrays captured by jitted functions inside it are pulled out as well. Those inside the body of a
    loop, a branch or a rematerialised block stay, and their bytes are part of the comparison: two
    models that differ there are compiled separately, never confused.

    Args:
      function: takes pytrees of arrays to a pytree of arrays; need not be differentiable.
      *examples: arguments of the shapes and dtypes that it will be called with.

    Returns:
      A callable pytree. Its leaves are the captured arrays; two of them have the same tree
      structure exactly if they run the same program on their leaves. None if the function captured
      tracers, that is, if a surrounding transformation is in progress.
    """

    # JAX may cache traces by function, and bound methods of one object are equal.
    def fresh(*arguments):
        return function(*arguments)

    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), examples)
    traced, out_shape = jax.make_jaxpr(fresh, return_shape=True)(*shapes)
    block, constants = _separate(traced)
    if any(isinstance(constant, jax.core.Tracer) for constant in constants):
        return None
    try:
        content = _describe_block(block)
    except _HoldsTracer:
        return None
    key = (content, jax.tree.structure(examples), jax.tree.structure(out_shape))
    program = _canonical(_Program(block, jax.tree.structure(out_shape), key))
    return jax.tree_util.Partial(program, [_as_array(constant) for constant in constants])


class _Block(NamedTuple):
    """A program whose constants are inputs, with calls that held constants opened up.

    `steps` has every equation, or the call that runs in its place.
    """

    constants: Sequence[core.Var]
    inputs: Sequence[core.Var]
    steps: Sequence[core.JaxprEqn | _Call]
    outputs: Sequence[Any]


class _Call(NamedTuple):
    """An opened-up call: its block, and the variables around it."""

    block: _Block
    inputs: Sequence[Any]
    outputs: Sequence[core.Var]


class _Program:
    """A block that is equal to every other block of the same content."""

    def __init__(self, block: _Block, out_structure: Any, key: Any):
        self.block = block
        self.out_structure = out_structure
        self.key = key
        self.hash = hash(key)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, _Program) and self.hash == other.hash and self.key == other.key

    def __call__(self, constants: Sequence[Any], *arguments: Any) -> Any:
        remaining = iter(constants)
        outputs = _evaluate(self.block, remaining, jax.tree.leaves(arguments))
        return jax.tree.unflatten(self.out_structure, outputs)


@functools.lru_cache(maxsize=64)
def _canonical(program: _Program) -> _Program:
    """The first of all equal programs, so that later comparisons end at `is`."""
    return program


def _as_array(constant: Any) -> Any:
    if isinstance(constant, jax.Array):
        return constant
    return jnp.asarray(np.asarray(constant))


def _separate(jaxpr: Any) -> tuple[_Block, list[Any]]:
    """Splits a closed jaxpr into a block and its constants, in the order the block takes them."""
    constants = list(jaxpr.consts)
    steps: list[core.JaxprEqn | _Call] = []
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        called: Any = equation.params.get(_CALLS[name]) if name in _CALLS else None
        if _is_jaxpr(called) and len(called.in_avals) == len(equation.invars):
            block, inner = _separate(called)
            if inner or name in _DIFFERENTIATED:
                constants.extend(inner)
                steps.append(_Call(block, equation.invars, equation.outvars))
                continue
        steps.append(equation)
    opened = jaxpr.jaxpr
    constant_variables = opened.constvars if jaxpr.consts else []
    return _Block(constant_variables, opened.invars, steps, opened.outvars), constants


def _evaluate(block: _Block, constants: Any, arguments: Sequence[Any]) -> list[Any]:
    """Runs a block; `constants` is an iterator over those of the whole program."""
    values = {variable: next(constants) for variable in block.constants}
    values.update(zip(block.inputs, arguments, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for step in block.steps:
        if isinstance(step, _Call):
            outputs = _evaluate(step.block, constants, [read(atom) for atom in step.inputs])
            values.update(zip(step.outputs, outputs, strict=True))
            continue
        primitive = step.primitive
        with step.ctx.manager:
            outputs = primitive.bind(
                *[read(atom) for atom in step.invars],
                **primitive.get_bind_params(step.params),
            )
        values.update(
            zip(step.outvars, outputs if primitive.multiple_results else [outputs], strict=True)
        )
    return [read(atom) for atom in block.outputs]


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


class _Numbering(dict):
    """Numbers variables in the order in which they are met."""

    def __missing__(self, variable: Any) -> int:
        self[variable] = len(self)
        return self[variable]


class _HoldsTracer(Exception):
    """A value of a surrounding transformation was met inside a program."""


class _Identity:
    """Compares an unhashable object by identity, and keeps it alive: its id stays its own."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value


def _describe_block(block: _Block) -> Any:
    numbers = _Numbering()
    return (
        tuple((numbers[variable], variable.aval) for variable in block.constants),
        tuple((numbers[variable], variable.aval) for variable in block.inputs),
        tuple(
            (
                _describe_block(step.block),
                _describe_atoms(step.inputs, numbers),
                tuple(numbers[variable] for variable in step.outputs),
            )
            if isinstance(step, _Call)
            else _describe_equation(step, numbers)
            for step in block.steps
        ),
        _describe_atoms(block.outputs, numbers),
    )


def _describe_equation(equation: core.JaxprEqn, numbers: _Numbering) -> Any:
    # The context carries what surrounds an operation (where it computes, which random bits); JAX
    # interns contexts, so equal ones are one object.
    name = equation.primitive.name
    params = equation.params
    if name in _DIFFERENTIATED:
        params = {_CALLS[name]: params[_CALLS[name]]}
    return (
        equation.primitive,
        _describe_atoms(equation.invars, numbers),
        tuple((numbers[variable], variable.aval) for variable in equation.outvars),
        tuple((key, _describe(params[key])) for key in sorted(params)),
        equation.ctx,
    )


def _describe_atoms(atoms: Sequence[Any], numbers: _Numbering) -> Any:
    return tuple(
        ("literal", atom.aval, _digest(atom.val))
        if isinstance(atom, core.Literal)
        else numbers[atom]
        for atom in atoms
    )


def _describe(value: Any) -> Any:
    """A hashable stand-in for an equation's parameter: equal only where the parameter is."""
    if _is_jaxpr(value):
        numbers = _Numbering()
        opened = getattr(value, "jaxpr", value)
        consts = getattr(value, "consts", ())
        return (
            "jaxpr",
            tuple(_digest(constant) for constant in consts),
            tuple((numbers[variable], variable.aval) for variable in opened.constvars),
            tuple((numbers[variable], variable.aval) for variable in opened.invars),
            tuple(_describe_equation(equation, numbers) for equation in opened.eqns),
            _describe_atoms(opened.outvars, numbers),
        )
    if isinstance(value, tuple | list):
        return (type(value), tuple(_describe(entry) for entry in value))
    if isinstance(value, dict):
        entries = sorted(value.items(), key=lambda item: str(item[0]))
        return (dict, tuple((key, _describe(entry)) for key, entry in entries))
    if isinstance(value, float | complex):
        return (type(value), repr(value))
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _digest(value)
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return (type(value), value)


def _digest(value: Any) -> Any:
    """Stands for an array's content: its type, shape and a digest of its bytes."""
    if isinstance(value, jax.core.Tracer):
        raise _HoldsTracer
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return (str(jax.random.key_impl(value)), _digest(jax.random.key_data(value)))
    array = np.asarray(value)
    if array.dtype == object:
        return _Identity(value)
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()
    return (type(value), array.dtype, array.shape, content)
