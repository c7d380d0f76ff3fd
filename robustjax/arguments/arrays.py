"""What arrays of logits, labels and numbers per example must be.

Shapes and types are checked always, also while JAX traces. Values are checked where they are known,
so a compiled step pays nothing.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from robustjax.arguments.values import LARGEST_COUNT, kind, refusal, shown
from robustjax.errors import UserError

_SUM_ERROR, _HALF_SUM_ERROR = 1e-3, 2e-2
"""By how much the probabilities of a row may miss 1: by rounding, also that of 16 bits."""


def known(value: Any) -> np.ndarray | None:
    """The value on the host, or None while it is traced or where other processes hold a part."""
    leaves = jax.tree.leaves(value)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return None
    if any(isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in leaves):
        return None
    return np.asarray(value)


def as_array(name: str, value: Any) -> jax.Array:
    """An array of the dtype that JAX gives the value, which no other dtype then overrides.

    Raises:
      ValueError: it is no array of numbers.
    """
    try:
        value = jnp.asarray(value)
        return jnp.asarray(value, value.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal(name, shown(value), "arrays of numbers") from error


def at_least_float32(*dtypes: jnp.dtype) -> jnp.dtype:
    """float64 if any of the types is, else float32; also where JAX promotes nothing by itself."""
    return jnp.dtype(jnp.float64 if jnp.dtype(jnp.float64) in dtypes else jnp.float32)


def checked_logits(
    function: str, minimum_classes: int = 2, **logits: ArrayLike
) -> tuple[jax.Array, ...]:
    """Casts one or more arrays of logits to the type that a loss is computed in.

    Args:
      function: name of the loss, for the message.
      minimum_classes: the fewest classes for which the loss is defined.
      **logits: the arrays [B, K] by argument name; all must have one shape.

    Returns:
      The arrays in the widest of their types and float32.

    Raises:
      ValueError: not floating point, no or too few classes, or shapes that differ.
    """
    arrays = {name: as_array(f"{function}: {name}", value) for name, value in logits.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            accepted = "floating point [B, K]; the logits come first, the labels after them"
            raise refusal(f"{function}: {name}", kind(array), accepted)
        if array.ndim == 0 or array.shape[-1] < minimum_classes:
            accepted = f"[B, K] with K >= {minimum_classes} classes"
            raise refusal(f"{function}: {name}", kind(array), accepted)
    if len({array.shape for array in arrays.values()}) > 1:
        kinds = ", ".join(f"{name}={kind(array)}" for name, array in arrays.items())
        raise UserError(f"{function}: {kinds}: accepted are logits of one shape")
    dtype = at_least_float32(*(array.dtype for array in arrays.values()))
    return tuple(array.astype(dtype) for array in arrays.values())


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
    array = as_array(f"{function}: {name}", labels)
    expected = logits.shape[:-1]
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape != expected:
        accepted = f"hard labels, integers {list(expected)}, for logits {list(logits.shape)}{hint}"
        raise refusal(f"{function}: {name}", kind(array), accepted)
    check_class_range(f"{function}: {name}", labels, logits.shape[-1])
    return array.astype(jnp.int32)


def checked_labels(function: str, logits: jax.Array, labels: ArrayLike) -> jax.Array:
    """Returns soft labels [B, K] as they are, or hard labels [B] as int32.

    Raises:
      ValueError: neither probabilities of the logits' shape nor valid hard labels.
    """
    array = as_array(f"{function}: labels", labels)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.shape == logits.shape:
        check_distributions(f"{function}: labels", labels)
        return array
    hint = f", and soft ones, floating point {list(logits.shape)}"
    return checked_hard_labels(function, logits, labels, hint=hint)


def check_distributions(name: str, labels: ArrayLike) -> None:
    """Refuses known soft labels [B, K] that are no distribution in each row.

    Raises:
      ValueError: names the argument, and the first number that is wrong.
    """
    array = known(labels)
    if array is None:
        return
    values = array.astype(np.float64)
    if not np.all(values >= 0):
        raise UserError(
            f"{name} holds {values[~(values >= 0)].flat[0]:g}: accepted are probabilities"
        )
    sums = values.sum(-1)
    wrong = ~(np.abs(sums - 1) <= (_SUM_ERROR if array.dtype.itemsize > 2 else _HALF_SUM_ERROR))
    if wrong.any():
        raise UserError(
            f"{name} holds a row that sums to {sums[wrong].flat[0]:g}: accepted are distributions"
        )


def check_class_range(name: str, labels: ArrayLike, num_classes: int) -> None:
    """Refuses a known label outside [0, K).

    Raises:
      ValueError: names the argument, the label and K.
    """
    values = known(labels)
    if values is None:
        return
    outside = values[(values < 0) | (values >= num_classes)]
    if outside.size:
        raise UserError(
            f"{name} holds {outside.flat[0]}: accepted are 0 to {num_classes - 1}, of "
            f"{num_classes} classes"
        )


def checked_classes(name: str, classes: ArrayLike) -> jax.Array:
    """Class indices as int32, where it is not known yet how many classes there are.

    Raises:
      ValueError: a known one is negative, or would be another one in 32 bits.
    """
    values = known(classes)
    if values is not None and values.size:
        extreme = values.min() if values.min() < 0 else values.max()
        if not 0 <= extreme <= LARGEST_COUNT:
            raise UserError(f"{name} holds {extreme}: accepted are classes, counted from 0")
    return as_array(name, classes).astype(jnp.int32)


def checked_coefficient(
    name: str,
    value: ArrayLike,
    *,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    maximum: float = np.inf,
) -> jax.Array:
    """Returns a hyper-parameter, one for all examples or one each, in the loss's type.

    Args:
      name: of the loss and the argument, for the message.
      value: a scalar or [B]; may be traced.
      shape: the shape [B] of the loss.
      dtype: the loss's type.
      maximum: the largest accepted value; the smallest is 0.

    Raises:
      ValueError: another shape, or a known value outside [0, maximum] or not finite.
    """
    array = as_array(name, value)
    if not holds_numbers(array) or array.shape not in ((), shape):
        raise refusal(name, kind(array), f"a number, or one for each example, {list(shape)}")
    values = known(value)
    if values is not None:
        values = values.astype(np.float64)
        largest = min(maximum, float(jnp.finfo(dtype).max))
        outside = values[~((values >= 0) & (values <= largest))]
        if outside.size:
            found = outside.flat[0]
            accepted = "finite numbers, 0 or more" if maximum == np.inf else f"0 to {maximum:g}"
            if maximum == np.inf and np.isfinite(found) and found > 0:
                accepted = f"numbers up to {largest:.7g}, the largest {jnp.dtype(dtype)}"
            raise refusal(name, f"{found:g}", accepted)
    return array.astype(dtype)


def per_row(name: str, value: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A scalar or `[B]` of the dtype.

    Raises:
      ValueError: it is no number, or has another shape.
    """
    accepted = f"a number, or one for each of the {batch_size} examples"
    try:
        value = jnp.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise refusal(name, shown(value), accepted) from error
    if value.shape not in ((), (batch_size,)):
        raise refusal(name, kind(value), accepted)
    return value


def checked_scale(name: str, value: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A finite scalar or `[B]`, at least 0: of steps, of noise, of a distance.

    Raises:
      ValueError: it is not.
    """
    array = per_row(name, value, batch_size, dtype)
    values = known(array)
    if values is not None and not np.all(np.isfinite(values) & (values >= 0)):
        raise refusal(name, shown(value), "finite numbers, 0 or more")
    return array


def holds_numbers(array: jax.Array) -> bool:
    """Whether an array holds real numbers, which truth values are not."""
    return any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer))
