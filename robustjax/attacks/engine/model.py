"""What attacks ask of a network: its logits, or a loss of them and its gradient in the images.

Both come as a `model` for `robustjax.attacks.engine.run`, which lifts the network's weights out of
it where it was given as a closure.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import kind, refusal
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import run as engine

LogitsFn = Callable[[jax.Array], jax.Array]
RandomLogitsFn = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A loss towards a target class, as what is ascended: the less of it the better."""

    loss: Callable[[jax.Array, jax.Array], jax.Array]

    def __call__(self, logits: jax.Array, targets: jax.Array) -> jax.Array:
        """Minus the loss [B] of logits [B, K] and targets [B]."""
        return -self.loss(logits, targets)


def gradient_model(
    loss: Callable[[jax.Array, Any], jax.Array],
    logits_fn: LogitsFn,
    labels: jax.Array,
    targets: jax.Array | None = None,
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """One forward and one backward pass: images and target to logits, losses and gradient.

    Args:
      loss: called as `loss(logits, target)`, gives `[B]`.
      logits_fn: maps images `[B, ...]` to logits `[B, K]`.
      labels: checked against the number of classes, where both are known.
      targets: likewise; None: there are none.

    Returns:
      (images `[B, ...]`, target) -> logits `[B, K]`, losses `[B]`, and the gradient `[B, ...]` of
      the sum of the losses.
    """
    return _bind(_Gradient, loss, logits_fn, labels, targets)


def sampled_gradient_model(
    loss: Callable[[jax.Array, Any], jax.Array],
    logits_fn: RandomLogitsFn,
    labels: jax.Array,
    samples: int,
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """As `gradient_model`, of a random network: expectation over transformation.

    Args:
      loss: as for `gradient_model`.
      logits_fn: maps images `[B, ...]` and a key to logits `[B, K]`.
      labels: as for `gradient_model`.
      samples: how many draws the gradient is the mean of, 1 or more.

    Returns:
      (images, target, key) -> the logits of the last draw, the mean losses and the mean gradient.
    """
    return _bind(functools.partial(_SampledGradient, samples), loss, logits_fn, labels)


def one_draw(logits_fn: RandomLogitsFn, key: jax.Array) -> LogitsFn:
    """A random network with its randomness held fixed."""
    if engine.is_array_partial(logits_fn):
        return jax.tree_util.Partial(_call_with_key, logits_fn, key)
    return lambda images: logits_fn(images, key)


def _call_with_key(logits_fn: RandomLogitsFn, key: jax.Array, images: jax.Array) -> jax.Array:
    return logits_fn(images, key)


def logits_model(logits_fn: LogitsFn, labels: jax.Array | np.ndarray) -> LogitsFn:
    """One forward pass: images `[B, ...]` to logits `[B, K]`, at least float32."""
    return _bind(_Logits, None, logits_fn, labels)


def clean_logits(
    logits_fn: LogitsFn, images: jax.Array, labels: jax.Array | np.ndarray
) -> jax.Array:
    """The logits `[B, K]` at images that no attack has touched, jit-compiled outside of jit."""
    return engine.apply(logits_model(logits_fn, labels), images)


def _bind(
    part: Callable[..., Any],
    loss: Any,
    logits_fn: LogitsFn | RandomLogitsFn,
    labels: jax.Array | np.ndarray,
    targets: jax.Array | None = None,
) -> Callable[..., Any]:
    if engine.is_array_partial(logits_fn) and (loss is None or _is_library_function(loss)):
        return jax.tree_util.Partial(part(loss), logits_fn)
    largest = checks.largest_class(labels=labels, targets=targets)
    return functools.partial(part(loss, largest), logits_fn)


@dataclasses.dataclass(frozen=True)
class _Gradient:
    """A loss as what a loop needs of it.

    `largest_class` is for the check of the classes at a trace. A model that is recognised from call
    to call does without, lest it be another one for other labels.
    """

    loss: Callable[[jax.Array, Any], jax.Array]
    largest_class: tuple[str, int] | None = None

    def __call__(
        self, logits_fn: LogitsFn, images: jax.Array, target: Any
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        def total(images):
            logits = checks.checked_logits(
                logits_fn(images), len(images), self.largest_class, differentiable=True
            )
            per_row = self.loss(logits, target)
            if per_row.shape != (len(images),):
                accepted = f"[{len(images)}], one value per image, without reducing"
                raise refusal("loss: values", kind(per_row), accepted)
            return jnp.sum(per_row), (logits, per_row)

        (_, (logits, per_row)), gradient = jax.value_and_grad(total, has_aux=True)(images)
        return logits, per_row, gradient


@dataclasses.dataclass(frozen=True)
class _SampledGradient:
    """The mean gradient over draws of a random network; see `_Gradient` for `largest_class`."""

    samples: int
    loss: Callable[[jax.Array, Any], jax.Array]
    largest_class: tuple[str, int] | None = None

    def __call__(
        self, logits_fn: RandomLogitsFn, images: jax.Array, target: Any, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        gradient_of = _Gradient(self.loss, self.largest_class)
        mean_loss: Any = 0.0
        mean_gradient = jnp.zeros_like(images)
        for sample in range(self.samples):
            draw = one_draw(logits_fn, jax.random.fold_in(key, sample))
            logits, per_row, gradient = gradient_of(draw, images, target)
            mean_loss += per_row / self.samples
            mean_gradient += gradient / self.samples
        return logits, mean_loss, mean_gradient


@dataclasses.dataclass(frozen=True)
class _Logits:
    """The logits alone; see `_Gradient` for `largest_class`."""

    loss: None
    largest_class: tuple[str, int] | None = None

    def __call__(self, logits_fn: LogitsFn, images: jax.Array) -> jax.Array:
        return checks.checked_logits(logits_fn(images), len(images), self.largest_class)


def _is_library_function(loss: Any) -> bool:
    """Whether a loss is known to capture nothing, so that its identity says all about it."""
    if isinstance(loss, Lowered):
        return _is_library_function(loss.loss)
    module = getattr(loss, "__module__", None) or ""
    named = getattr(sys.modules.get(module), getattr(loss, "__name__", ""), None)
    return module.split(".")[0] == "robustjax" and named is loss
