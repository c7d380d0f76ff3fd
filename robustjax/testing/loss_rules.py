"""What holds for a loss: one finite number per example, of that example alone."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import own_code
from robustjax.testing.broken_rule import (
    BATCH,
    CLASSES,
    KEPT,
    broken,
    require,
    require_finite_numbers,
    require_rows,
    same,
    some_labels,
)


def check_loss(loss: Callable[..., Any] | str) -> None:
    """Tries the rules of losses on one that is yours.

    They are: a loss is a function of logits [B, K] and labels int [B], or of clean logits,
    adversarial logits and labels as `--loss` takes it; it gives floating [B], not reduced; a row is
    a function of that row; it can be compiled, and gives the same again; its gradient by the logits
    is finite, and not 0 everywhere; none of this fails at logits of size 10⁴.

    Args:
      loss: the function; or `package.module:loss`.

    Raises:
      BrokenRule: names the first rule that does not hold.

    Example:
      >>> from robustjax import losses
      >>> check_loss(losses.cross_entropy)
    """
    function = own_code.load("loss", loss) if isinstance(loss, str) else loss
    subject = f"loss {loss if isinstance(loss, str) else getattr(loss, '__name__', loss)}"
    require(callable(function), subject, f"{function!r:.60} cannot be called")
    number = _number_of_logits(function, subject)

    def of(*logits: jax.Array) -> jax.Array:
        return function(*logits, labels)

    labels = jnp.asarray(some_labels())
    logits = _logits(number, 1.0)
    found = of(*logits)
    require_rows(found, subject, "what it gives", (BATCH,), jnp.floating)
    require(
        found.dtype.itemsize >= 4, subject, f"what it gives is {found.dtype}; accepted: float32"
    )
    try:
        compiled = jax.jit(of)(*logits)
    except jax.errors.ConcretizationTypeError as error:
        first = str(error).splitlines()[0]
        broken(subject, f"it cannot be compiled by jax.jit ({first})")
    require(same(found, compiled, tolerance=1e-5), subject, "under jax.jit it gives other values")
    require(same(found, of(*logits)), subject, "called again it gives other values")
    others = [
        jnp.where(KEPT[:, None], one, other)
        for one, other in zip(logits, _logits(number, 1.0, seed=9), strict=True)
    ]
    require(
        same(found, of(*others), KEPT, 1e-5),
        subject,
        "the loss of an example changes with the other examples of the batch",
    )
    for scale in (1.0, 1e4):
        at = f"at logits of size {scale:g}"
        logits = _logits(number, scale)
        gradient = jax.grad(lambda *logits: jnp.sum(of(*logits)), argnums=tuple(range(number)))(
            *logits
        )
        require_finite_numbers(of(*logits), subject, f"what it gives {at}")
        require_finite_numbers(gradient, subject, f"its gradient {at}")
        moves = any(bool(jnp.any(leaf != 0)) for leaf in gradient)
        require(moves or scale > 1, subject, "its gradient by the logits is 0 everywhere")


def _number_of_logits(function: Callable[..., Any], subject: str) -> int:
    """1 of a loss of (logits, labels), 2 of one of (clean_logits, adversarial_logits, labels)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # Of what is not written in Python.
        return 1
    needed = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    require(
        len(needed) in (2, 3),
        subject,
        f"it takes {len(needed)} arguments without a default; accepted are (logits, labels), and "
        "(clean_logits, adversarial_logits, labels)",
    )
    return len(needed) - 1


def _logits(number: int, scale: float, seed: int = 1) -> list[jax.Array]:
    random = np.random.default_rng(seed)
    draws = random.normal(scale=scale, size=(number, BATCH, CLASSES))
    return list(jnp.asarray(draws, jnp.float32))
