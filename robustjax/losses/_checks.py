"""Checks of shapes, types and values that every loss makes before it computes.

Shapes and types are checked always, also while JAX traces. Values are checked where they are known,
so a compiled step pays nothing; there, a label outside [0, K) gives NaN.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from robustjax.arguments import did_you_mean, shown
from robustjax.errors import UserError

_SUM_ERROR, _HALF_SUM_ERROR = 1e-3, 2e-2
"""By how much the probabilities of a row may miss 1: by rounding, also that of 16 bits."""


def checked_logits(
    function: str, minimum_classes: int = 2, **logits: ArrayLike
) -> tuple[jax.Array, ...]:
    """Casts one or more arrays of logits to the type that the loss is computed in.

    Args:
      function: name of the loss, for the message.
      minimum_classes: the fewest classes for which the loss is defined.
      **logits: the arrays [B, K] by argument name; all must have one shape.

    Returns:
      The arrays in the widest of their types and float32.

    Raises:
      ValueError: not floating point, no or too few classes, or shapes that differ.
    """
    arrays = {name: as_array(function, name, value) for name, value in logits.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(
                f"{function}: {name} must be floating point, got {array.dtype} of shape "
                f"{array.shape}; the logits come first, the labels after them"
            )
        if array.ndim == 0 or array.shape[-1] < minimum_classes:
            raise UserError(
                f"{function}: {name} must have shape [B, K] with K >= {minimum_classes} classes, "
                f"got {array.shape}"
            )
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(f"{function}: logits must have the same shape, got {shapes}")
    dtype = at_least_float32(*(array.dtype for array in arrays.values()))
    return tuple(array.astype(dtype) for array in arrays.values())


def at_least_float32(*dtypes: jnp.dtype) -> jnp.dtype:
    """float64 if any of the types is, else float32; also where JAX promotes nothing by itself."""
    return jnp.dtype(jnp.float64 if jnp.dtype(jnp.float64) in dtypes else jnp.float32)


def checked_hard_labels(
    function: str, logits: jax.Array, labels: ArrayLike, *, name: str = "labels", hint: str = ""
) -> jax.Array:
    """Returns class indices [B] as int32.

    Args:
      function: name of the loss, for the message.
      logits: checked logits [B, K].
      labels: class indices [B] of any integer type.
      name: the argument's name, for the message.
      hint: what else the loss accepts, or why it accepts nothing else; ends the message.

    Raises:
      ValueError: not integers, another shape than the logits' less the classes, or a known value
        outside [0, K).
    """
    array = as_array(function, name, labels)
    expected = logits.shape[:-1]
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape != expected:
        raise UserError(
            f"{function}: {name} must be hard labels, integers of shape {expected} for logits of "
            f"shape {logits.shape}; got {array.dtype} of shape {array.shape}{hint}"
        )
    check_class_range(function, labels, logits.shape[-1], name=name)
    return array.astype(jnp.int32)


def checked_labels(function: str, logits: jax.Array, labels: ArrayLike) -> jax.Array:
    """Returns soft labels [B, K] as they are, or hard labels [B] as int32.

    Raises:
      ValueError: neither probabilities of the logits' shape nor valid hard labels.
    """
    array = as_array(function, "labels", labels)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.shape == logits.shape:
        check_distributions(function, labels)
        return array
    hint = f"; soft labels, floating point of shape {logits.shape}, are accepted too"
    return checked_hard_labels(function, logits, labels, hint=hint)


def check_distributions(function: str, labels: ArrayLike) -> None:
    """Raises ValueError if known soft labels [B, K] are no distribution in each row."""
    if not is_known(labels):
        return
    array = np.asarray(jax.device_get(labels))
    values = array.astype(np.float64)
    if not np.all(values >= 0):
        raise UserError(
            f"{function}: labels must be probabilities, got {values[~(values >= 0)].flat[0]:g}"
        )
    sums = values.sum(-1)
    wrong = ~(np.abs(sums - 1) <= (_SUM_ERROR if array.dtype.itemsize > 2 else _HALF_SUM_ERROR))
    if wrong.any():
        raise UserError(
            f"{function}: labels must be a distribution in each row, got one that sums to "
            f"{sums[wrong].flat[0]:g}"
        )


def check_class_range(
    function: str, labels: ArrayLike, num_classes: int, *, name: str = "labels"
) -> None:
    """Raises ValueError if a known label is outside [0, K)."""
    if not is_known(labels):
        return
    values = np.asarray(jax.device_get(labels))
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise UserError(
            f"{function}: {name} must lie in [0, {num_classes}) for {num_classes} classes, got "
            f"{outside.flat[0]}"
        )


def checked_coefficient(
    function: str,
    name: str,
    value: ArrayLike,
    *,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    maximum: float = np.inf,
) -> jax.Array:
    """Returns a hyper-parameter, one for all examples or one each, in the loss's type.

    Args:
      function: name of the loss, for the message.
      name: the argument's name, for the message.
      value: a scalar or [B]; may be traced.
      shape: the shape [B] of the loss.
      dtype: the loss's type.
      maximum: the largest accepted value; the smallest is 0.

    Raises:
      ValueError: another shape, or a known value outside [0, maximum] or not finite.
    """
    array = as_array(function, name, value)
    if not holds_numbers(array):
        raise UserError(f"{function}: {name} must be a number, got {array.dtype}")
    if array.shape not in ((), shape):
        raise UserError(
            f"{function}: {name} must be a scalar or have shape {shape}, got shape {array.shape}"
        )
    if is_known(value):
        values = np.asarray(jax.device_get(value), dtype=np.float64)
        largest = min(maximum, float(jnp.finfo(dtype).max))
        outside = values[~((values >= 0) & (values <= largest))]
        if outside.size:
            accepted = "finite and >= 0" if maximum == np.inf else f"in [0, {maximum:g}]"
            if maximum == np.inf and np.isfinite(outside.flat[0]) and outside.flat[0] > 0:
                accepted = f"at most {largest:.7g}, the largest {jnp.dtype(dtype)}"
            raise UserError(f"{function}: {name} must be {accepted}, got {outside.flat[0]:g}")
    return array.astype(dtype)


def as_array(function: str, name: str, value: ArrayLike) -> jax.Array:
    """An array, or a ValueError that names the argument."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(value).__name__
        raise UserError(f"{function}: {name} must be an array of numbers, got {kind}") from error


def holds_numbers(array: jax.Array) -> bool:
    """Whether an array holds real numbers, which truth values are not."""
    return any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer))


def require_choice(function: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Raises ValueError, with the nearest of the choices, if a text is none of them."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(
            f"{function}: {name} must be one of {tuple(choices)}, got {shown(value)!r}"
            f"{did_you_mean(value, choices)}"
        )


def is_known(value: ArrayLike) -> bool:
    """Whether the values can be read now: not traced, and held by this process."""
    if isinstance(value, jax.core.Tracer):
        return False
    return not isinstance(value, jax.Array) or value.is_fully_addressable
