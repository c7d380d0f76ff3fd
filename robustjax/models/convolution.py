"""Convolution as a network's layers use it: XLA's own, but where it is compiled for a CPU.

There that is slow, and in float32 it differs in two ways:

* 3×3 kernels of stride 1 between 32 channels or more take Winograd's algorithm
  (`robustjax.models.winograd`), and those with a stride are one product (`robustjax.models.taps`),
  which is faster there.
* The gradients are written without the transposed convolutions that XLA runs several times slower,
  and 12 to 75 times slower in a loop than outside of one (jax-ml/jax issue 12868); but for that of
  a large kernel, or of a small batch, which attacks do not need.

On all other platforms forward pass and gradients are those of `jax.lax.conv_general_dilated`; on a
TPU each gradient is kept apart from the next.

The price is forward-mode differentiation (`jax.jvp`), which `jax.custom_vjp` does not have. It is
paid on every platform, as both forms are traced wherever one of them is compiled;
`models.create(..., convolution="xla")` does without.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from robustjax import platforms
from robustjax.models import taps, winograd

Padding = winograd.Padding
Strides = tuple[int, int]

_FEWEST_CHANNELS = 32
_FEWEST_CHANNELS_FOR_KERNEL = 64
"""From where the other algorithms are faster, and Winograd's gradient of the kernel."""

_LARGEST_KERNEL_OF_TAPS = 3
_FEWEST_TAPS = 2**20
"""Of a batch: with larger kernels, or fewer taps, XLA's gradient of a kernel is faster."""

_MOST_CHANNELS_TO_SCATTER = 4
"""Of the inputs, images mostly: up to here their gradient is faster if scattered."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, ...],
    padding: Any,
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: jax.lax.ConvDimensionNumbers,
    feature_group_count: int,
    precision: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` calls it for [B, H, W, C]."""
    plain = set(lhs_dilation) | set(rhs_dilation) | {feature_group_count} == {1}
    if plain and inputs.ndim == 4 and inputs.dtype == kernel.dtype == jnp.float32:
        if isinstance(padding, str):
            padding = jax.lax.padtype_to_pads(inputs.shape[1:3], kernel.shape[:2], strides, padding)
        if _fits(inputs, kernel, padding):
            inputs, kernel = _varying_alike(inputs, kernel)
            strides, padding = tuple(strides), tuple(map(tuple, padding))
            return _convolve(inputs, kernel, strides, padding, precision)
    outputs = jax.lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )
    return _gradient_apart(outputs)


@jax.custom_jvp
def _gradient_apart(outputs: jax.Array) -> jax.Array:
    """The same, whose gradient a TPU has whole before it goes on.

    Left alone, its compiler may join the gradients of two convolutions in one operation, where the
    first is computed anew for every window of the second.
    """
    return outputs


@_gradient_apart.defjvp
def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    return primals[0], _whole_on_a_tpu(tangents[0])


@jax.jit  # It keeps the trace, of which there would be one for each convolution.
def _whole_on_a_tpu(tangent: jax.Array) -> jax.Array:
    return platforms.for_platform(tangent, tpu=jax.lax.optimization_barrier, other=_unchanged)


def _unchanged(tangent: jax.Array) -> jax.Array:
    return tangent


def _fits(inputs: jax.Array, kernel: jax.Array, padding: Any) -> bool:
    """Whether the kernel fits into the inputs with zeros around them, none of which cuts off."""
    return all(
        min(zeros) >= 0 and entries <= extent + sum(zeros)
        for extent, entries, zeros in zip(inputs.shape[1:3], kernel.shape[:2], padding, strict=True)
    )


def _varying_alike(inputs: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same arrays, inside `jax.shard_map` varying over the axes that either varies over.

    JAX then sums over the devices the gradient of what is the same on all of them, such as a
    kernel.
    """
    of_inputs, of_kernel = (
        jax.typeof(array).manual_axis_type.varying for array in (inputs, kernel)
    )
    if of_inputs == of_kernel:
        return inputs, kernel
    inputs = jax.lax.pcast(inputs, tuple(sorted(of_kernel - of_inputs)), to="varying")
    return inputs, jax.lax.pcast(kernel, tuple(sorted(of_inputs - of_kernel)), to="varying")


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    inputs: jax.Array, kernel: jax.Array, strides: Strides, padding: Padding, precision: Any
) -> jax.Array:
    plain = partial(_direct, strides=strides, padding=padding, precision=precision)
    if _suits_winograd(kernel, strides, _FEWEST_CHANNELS):
        on_cpu = partial(winograd.convolve, padding=padding)
    elif max(strides) > 1 and kernel.shape[2] >= _FEWEST_CHANNELS:
        on_cpu = partial(taps.convolve, strides=strides, padding=padding)
    else:
        return plain(inputs, kernel)
    return platforms.for_platform(inputs, kernel, cpu=on_cpu, other=plain)


def _forward(
    inputs: CustomVJPPrimal,
    kernel: CustomVJPPrimal,
    strides: Strides,
    padding: Padding,
    precision: Any,
) -> tuple[jax.Array, tuple[Any, ...]]:
    outputs = _convolve(inputs.value, kernel.value, strides, padding, precision)
    # An attack asks for one gradient alone: the other must not even be traced.
    wanted = tuple(() if argument.perturbed else None for argument in (inputs, kernel))
    return outputs, (inputs.value, kernel.value, wanted)


def _backward(
    strides: Strides, padding: Padding, precision: Any, saved: tuple[Any, ...], cotangent: Any
) -> tuple[jax.Array | None, jax.Array | None]:
    inputs, kernel, (of_inputs, of_kernel) = saved
    if isinstance(cotangent, SymbolicZero):
        return None, None
    plain = partial(_direct, strides=strides, padding=padding, precision=precision)

    def by_inputs(cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.vjp(lambda inputs: plain(inputs, kernel), inputs)[1](cotangent)[0]

    def by_inputs_of_a_whole(cotangent: jax.Array, kernel: jax.Array) -> jax.Array:
        return by_inputs(jax.lax.optimization_barrier(cotangent), kernel)

    def by_kernel(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(lambda kernel: plain(inputs, kernel), kernel)[1](cotangent)[0]

    input_gradient = kernel_gradient = None
    if of_inputs is not None:
        on_cpu = partial(_input_gradient, shape=inputs.shape, strides=strides, padding=padding)
        input_gradient = platforms.for_platform(
            cotangent, kernel, cpu=on_cpu, tpu=by_inputs_of_a_whole, other=by_inputs
        )
    if of_kernel is not None and _is_slow_in_xla(kernel, cotangent):
        on_cpu = partial(_kernel_gradient, kernel=kernel, strides=strides, padding=padding)
        kernel_gradient = platforms.for_platform(inputs, cotangent, cpu=on_cpu, other=by_kernel)
    elif of_kernel is not None:
        kernel_gradient = by_kernel(inputs, cotangent)
    return input_gradient, kernel_gradient


_convolve.defvjp(_forward, _backward, symbolic_zeros=True)


def _direct(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Strides,
    padding: Padding,
    precision: Any = None,
) -> jax.Array:
    return jax.lax.conv_general_dilated(
        inputs, kernel, strides, padding, dimension_numbers=_LAYOUT, precision=precision
    )


def _suits_winograd(kernel: jax.Array, strides: Strides, fewest_channels: int) -> bool:
    *size, channels, features = kernel.shape
    return size == [3, 3] and strides == (1, 1) and min(channels, features) >= fewest_channels


def _input_gradient(
    cotangent: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    strides: Strides,
    padding: Padding,
) -> jax.Array:
    if _suits_winograd(kernel, strides, _FEWEST_CHANNELS):
        return winograd.input_gradient(cotangent, kernel, padding)
    if strides == (1, 1) and kernel.shape[2] > _MOST_CHANNELS_TO_SCATTER:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        rows, columns = (
            (size - 1 - before, size - 1 - after)
            for size, (before, after) in zip(kernel.shape, padding, strict=False)
        )
        return _direct(cotangent, turned, strides, (rows, columns))
    return _scattered(cotangent, kernel, shape, strides, padding)


def _scattered(
    cotangent: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
    strides: Strides,
    padding: Padding,
) -> jax.Array:
    """Each output's gradient, times every entry of the kernel, added up where its inputs were.

    With a stride that costs a fraction of a convolution of the gradient with zeros in between, and
    with few input channels a third to a half of one that computes so few features. Inputs that are
    a stride apart get theirs together: input s·q + r through entry k of the kernel from output
    q + (r + padding - k) / s, where that is whole.
    """
    shares = jnp.einsum("bhwd,ijcd->bhwijc", cotangent, kernel)
    counts = [-(-shape[axis + 1] // strides[axis]) for axis in range(2)]

    def reached(axis: int, remainder: int) -> list[tuple[int, tuple[int, int, int]]]:
        """Entries of the kernel along an axis, each with what to pad the outputs by."""
        found = []
        for entry in range(kernel.shape[axis]):
            shift, rest = divmod(remainder + padding[axis][0] - entry, strides[axis])
            if rest == 0:
                after = counts[axis] + shift - cotangent.shape[axis + 1]
                found.append((entry, (-shift, after, 0)))
        return found

    def gathered(remainders: tuple[int, int]) -> jax.Array:
        zero, whole = jnp.zeros((), cotangent.dtype), (0, 0, 0)
        terms = [
            jax.lax.pad(shares[:, :, :, row, column], zero, (whole, tall, wide, whole))
            for row, tall in reached(0, remainders[0])
            for column, wide in reached(1, remainders[1])
        ]
        return sum(terms, jnp.zeros((shape[0], *counts, shape[3]), cotangent.dtype))

    rows = [
        jnp.stack([gathered((row, column)) for column in range(strides[1])], axis=3)
        for row in range(strides[0])
    ]
    inputs = jnp.stack(rows, axis=2)
    sizes = [count * stride for count, stride in zip(counts, strides, strict=True)]
    return inputs.reshape(shape[0], *sizes, shape[3])[:, : shape[1], : shape[2]]


def _is_slow_in_xla(kernel: jax.Array, cotangent: jax.Array) -> bool:
    """Whether XLA's gradient of a kernel is the slower one: many pixels, or 1×1."""
    height, width, channels, _ = kernel.shape
    if max(height, width) > _LARGEST_KERNEL_OF_TAPS:
        return False
    taps_of_an_output = height * width * channels
    outputs = math.prod(cotangent.shape[:3])
    return height * width == 1 or outputs * taps_of_an_output >= _FEWEST_TAPS


def _kernel_gradient(
    inputs: jax.Array,
    cotangent: jax.Array,
    kernel: jax.Array,
    strides: Strides,
    padding: Padding,
) -> jax.Array:
    if _suits_winograd(kernel, strides, _FEWEST_CHANNELS_FOR_KERNEL):
        # Without the barrier XLA would keep the forward pass's tiles, four times as large.
        inputs, cotangent = jax.lax.optimization_barrier((inputs, cotangent))
        return winograd.kernel_gradient(inputs, cotangent, padding)
    return taps.kernel_gradient(inputs, cotangent, kernel.shape[:2], strides, padding)
