"""Floating-point operations of a JAX function: what its convolutions and matrix products need.

Counted in the jaxpr, two operations for a multiplication and its addition. Everything else (batch
norm, activations, losses) is left out: it is bound by memory, not by arithmetic.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from robustjax.errors import UserError
from robustjax.models.registry import create


def count(function: Callable[..., Any], *arguments: Any, padded_taps: bool = True) -> int:
    """Operations of one call.

    Args:
      function: a function of arrays.
      *arguments: arrays, or `jax.ShapeDtypeStruct`s in their place.
      padded_taps: whether the multiplications of a convolution by the zeros of its padding count.
        The usual figures of the literature count them. Without them, the zeros that are put between
        the entries of a dilated input are left out too, and the gradients of a convolution need
        exactly as many operations as the convolution itself.

    Raises:
      ValueError: a loop with an unknown number of turns holds a convolution or a product.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, padded_taps)


def forward(
    model_name: str, image_shape: tuple[int, int, int] = (32, 32, 3), *, padded_taps: bool = True
) -> int:
    """Operations of one forward pass of a network on one image [H, W, C]; makes no weights.

    Those of direct convolutions, whatever algorithm the network would use here.
    """
    model = create(model_name, convolution="xla")
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    return count(
        lambda variables, images: model.apply(variables, images, train=False),
        variables,
        images,
        padded_taps=padded_taps,
    )


def _count(jaxpr: core.Jaxpr, padded_taps: bool) -> int:
    return sum(_of_equation(equation, padded_taps) for equation in jaxpr.eqns)


def _of_equation(equation: Any, padded_taps: bool) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        return _of_convolution(equation, padded_taps)
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        return 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)
    inside = [_count(jaxpr, padded_taps) for jaxpr in _jaxprs(tuple(parameters.values()))]
    if name == "scan":
        return parameters["length"] * sum(inside)
    if name == "cond":
        return max(inside)
    if name == "while" and any(inside):
        raise UserError("the operations of a while loop cannot be counted: its length is unknown")
    return sum(inside)


def _jaxprs(value: Any) -> Iterator[core.Jaxpr]:
    """The jaxprs among the parameters of an equation."""
    if isinstance(value, core.ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _jaxprs(entry)


def _of_convolution(equation: Any, padded_taps: bool) -> int:
    parameters = equation.params
    dimensions = parameters["dimension_numbers"]
    inputs, kernel = (variable.aval.shape for variable in equation.invars)
    outputs = equation.outvars[0].aval.shape
    batch_axis, feature_axis, *_ = dimensions.out_spec
    products = outputs[batch_axis] * outputs[feature_axis] * kernel[dimensions.rhs_spec[1]]
    for place, (input_axis, kernel_axis, output_axis) in enumerate(
        zip(dimensions.lhs_spec[2:], dimensions.rhs_spec[2:], dimensions.out_spec[2:], strict=True)
    ):
        if padded_taps:
            products *= outputs[output_axis] * kernel[kernel_axis]
            continue
        products *= _taps_on_entries(
            inputs[input_axis],
            kernel[kernel_axis],
            outputs[output_axis],
            stride=parameters["window_strides"][place],
            padding=parameters["padding"][place][0],
            input_dilation=parameters["lhs_dilation"][place],
            kernel_dilation=parameters["rhs_dilation"][place],
        )
    return 2 * products


def _taps_on_entries(
    inputs: int,
    kernel: int,
    outputs: int,
    *,
    stride: int,
    padding: int,
    input_dilation: int,
    kernel_dilation: int,
) -> int:
    """Pairs of an output position and a kernel tap that meet an entry of the input, on one axis."""
    places = (
        output * stride + tap * kernel_dilation - padding
        for output in range(outputs)
        for tap in range(kernel)
    )
    last = (inputs - 1) * input_dilation
    return sum(0 <= place <= last and place % input_dilation == 0 for place in places)
