"""Checks that attacks make of their arguments, which also bring each into one form.

Equivalent arguments (a Python float, a NumPy float64, a float32 array) leave here with one shape
and one strong dtype, so that they share one compiled program. Shapes and dtypes are checked always,
values where they are known.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import LARGEST_COUNT, did_you_mean, shown
from robustjax.attacks.threat_model import ThreatModel
from robustjax.errors import UserError
from robustjax.losses._checks import at_least_float32, check_distributions
from robustjax.step_size import ReachWarning, reach_complaint

STARTS = ("uniform", "gaussian", "sign", "clean")

_BOX_ROUNDING = 1e-6
"""Of the box's width: what a pixel may lie beyond it, as where it was normalised and came back."""


def known(value: Any) -> np.ndarray | None:
    """The value on the host, or None while it is traced or where other processes hold a part."""
    leaves = jax.tree.leaves(value)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return None
    if any(isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in leaves):
        return None
    return np.asarray(value)


def strong(name: str, value: Any) -> jax.Array:
    """An array of the dtype that JAX would give the value, which no other dtype then overrides."""
    try:
        value = jnp.asarray(value)
        return jnp.asarray(value, value.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name} is {shown(value)}; it must be an array") from error


def checked_function(name: str, value: Any, what: str) -> None:
    """Refuses what cannot be called."""
    if not callable(value):
        raise UserError(f"{name} is {shown(value)}; it must be {what}")


def checked_logits_fn(logits_fn: Any) -> None:
    """Refuses what is no network."""
    checked_function(
        "logits_fn", logits_fn, "a function of images [B, H, W, C] that gives logits [B, K]"
    )


def checked_count(name: str, value: Any, minimum: int) -> int:
    """A Python int of at least the minimum, and no more than a compiled program can count."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or not minimum <= value <= LARGEST_COUNT:
        raise UserError(
            f"{name} is {shown(value)}; it must be a Python int, {minimum} to {LARGEST_COUNT}"
        )
    return int(value)


def checked_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite Python number in [low, high], which becomes a part of the compiled program."""
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not low <= value <= high or not np.isfinite(value):
        accepted = f"in [{low}, {high}]" if np.isfinite(high) else f"finite and at least {low}"
        raise UserError(f"{name} is {value!r}; it must be a Python number, {accepted}")
    return float(value)


def checked_images(images: Any) -> jax.Array:
    """Floating images `[B, ...]`, at least float32."""
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise UserError(f"images is a {type(images).__name__}; it must be an array [B, H, W, C]")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(
            f"images has dtype {images.dtype}; it must be floating. "
            "For pixels 0 to 255 convert to float32 and divide by 255"
        )
    if images.ndim < 1:
        raise UserError("images is a single number; it must have shape [B, H, W, C]")
    dtype = at_least_float32(images.dtype)
    return jnp.asarray(images, jax.dtypes.canonicalize_dtype(dtype))


def check_inside_box(images: jax.Array | np.ndarray, threat: ThreatModel) -> None:
    """Refuses known pixels that are not finite, or outside of the box.

    The box wins over the ball: such a pixel would be moved into it, however far that is.
    """
    values = known(images)
    if values is None or not values.size:
        return
    if not np.isfinite(values).all():
        raise UserError("images holds pixels that are NaN or infinite")
    if threat.bounds is None or any(known(bound) is None for bound in threat.bounds):
        return
    low, high = (
        np.asarray(bound, np.float64).reshape(-1, *[1] * (values.ndim - 1))
        for bound in threat.bounds
    )
    slack = _BOX_ROUNDING * (high - low)
    outside = (values < low - slack) | (values > high + slack)
    if outside.any():
        raise UserError(
            f"images has pixels from {values.min():.6g} to {values.max():.6g}, outside of "
            f"threat.bounds, which is ({np.min(low):.6g}, {np.max(high):.6g})"
        )


def checked_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`, or soft ones `[B, K]`, distributions."""
    array = strong("labels", labels)
    integers = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim == 1
    probabilities = jnp.issubdtype(array.dtype, jnp.floating) and array.ndim == 2
    if not (integers or probabilities) or len(array) != batch_size:
        raise UserError(
            f"labels has shape {array.shape} and dtype {array.dtype} for {batch_size} images; "
            "it must be integers [B] or probabilities [B, K]"
        )
    if probabilities:
        check_distributions("attack", labels)
        return array
    _check_classes("labels", labels)
    return array.astype(jnp.int32)


def checked_hard_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`."""
    array = checked_labels(labels, batch_size)
    if array.ndim != 1:
        raise UserError("labels holds probabilities; this attack needs classes, integers [B]")
    return array


def largest_class(**classes: jax.Array | np.ndarray | None) -> tuple[str, int] | None:
    """The argument that holds the largest class, and that class; None: it is not known."""
    found = []
    for name, values in classes.items():
        numbers = None if values is None else known(values)
        if numbers is not None and numbers.ndim == 1 and numbers.size:
            found.append((name, int(numbers.max())))
    return max(found, key=lambda pair: pair[1], default=None)


def checked_targets(targets: Any, batch_size: int) -> jax.Array:
    """Classes to reach, int32 `[B]`."""
    array = strong("targets", targets)
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape != (batch_size,):
        raise UserError(
            f"targets has shape {array.shape} and dtype {array.dtype} for {batch_size} images; it "
            "must be integers [B], the class that each is to reach"
        )
    _check_classes("targets", targets)
    return array.astype(jnp.int32)


def _check_classes(name: str, classes: Any) -> None:
    """Refuses what is no class, before it is cut to 32 bits and would be another one."""
    values = known(classes)
    if values is None or not values.size:
        return
    if values.min() < 0:
        raise UserError(f"{name} holds {values.min()}; classes are counted from 0")
    if values.max() > LARGEST_COUNT:
        raise UserError(f"{name} holds {values.max()}; there are no more than {LARGEST_COUNT}")


def checked_target(target: Any, batch_size: int) -> Any:
    """A pytree of arrays `[B, ...]`."""
    target = jax.tree.map(lambda leaf: strong("target", leaf), target)
    for leaf in jax.tree.leaves(target):
        if leaf.ndim == 0 or len(leaf) != batch_size:
            raise UserError(
                f"target has shape {leaf.shape}; its first axis must be that of the {batch_size} "
                "images"
            )
    return target


def per_row(name: str, value: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A scalar or `[B]` of the dtype."""
    try:
        value = jnp.asarray(value, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name} is {shown(value)}; it must be a number, or one for each example"
        ) from error
    if value.shape not in ((), (batch_size,)):
        raise UserError(
            f"{name} has shape {value.shape}; it must be a scalar or one value for each of the "
            f"{batch_size} examples"
        )
    return value


def checked_scale(name: str, value: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A finite scalar or `[B]`, at least 0: of steps, of noise, of a distance."""
    array = per_row(name, value, batch_size, dtype)
    values = known(array)
    if values is not None and not np.all(np.isfinite(values) & (values >= 0)):
        raise UserError(f"{name} is {shown(value)}; it must be finite and at least 0")
    return array


def warn_if_short(epsilon: Any, steps: int, step_size: Any) -> None:
    """Warns of steps that end inside of the ball, where that is known.

    Warns:
      ReachWarning: names both numbers.
    """
    radius, size = known(epsilon), known(step_size)
    if radius is None or size is None:
        return
    complaint = reach_complaint(radius, steps, size)
    if complaint:
        warnings.warn(complaint, ReachWarning, stacklevel=4)


def checked_threat_type(threat: Any) -> ThreatModel:
    """A threat model."""
    if not isinstance(threat, ThreatModel):
        raise UserError(f"threat is a {type(threat).__name__}; it must be a ThreatModel")
    return threat


def checked_threat(threat: Any, batch_size: int, dtype: Any) -> ThreatModel:
    """A threat model whose leaves are scalars or `[B]` of the images' dtype."""
    threat = checked_threat_type(threat)
    epsilon = per_row("threat.epsilon", threat.epsilon, batch_size, dtype)
    values = known(threat.epsilon)
    if values is not None and not np.all(values >= 0):
        raise UserError(f"threat.epsilon is {threat.epsilon}; it must be at least 0")
    bounds = threat.bounds
    if bounds is not None:
        low, high = bounds = tuple(
            per_row("threat.bounds", bound, batch_size, dtype) for bound in bounds
        )
        lowest, highest = known(low), known(high)
        if lowest is not None and highest is not None:
            if not np.all(lowest <= highest):
                raise UserError(
                    f"threat.bounds is {threat.bounds}; low must not exceed high, and both must be "
                    "numbers"
                )
            _warn_if_ball_holds_box(threat, values, highest - lowest)
    return dataclasses.replace(threat, epsilon=epsilon, bounds=bounds)


def _warn_if_ball_holds_box(threat: ThreatModel, radius: Any, width: np.ndarray) -> None:
    """Warns of a radius that is in other units than the box."""
    if (
        threat.norm != "linf"
        or radius is None
        or not np.any(np.isfinite(radius) & (radius > width))
    ):
        return
    largest = float(np.max(radius[np.isfinite(radius)] if radius.ndim else radius))
    warnings.warn(
        f"threat.epsilon is {largest:g} in a box of width {float(np.max(width)):g}: the ball holds "
        f"the whole box. Is it {largest:g}/255?",
        stacklevel=4,
    )


def has_finite_epsilon(threat: ThreatModel) -> bool:
    """Whether every epsilon is finite, or not known."""
    values = known(threat.epsilon)
    return values is None or bool(np.all(np.isfinite(values)))


def checked_start(
    start: Any, images: jax.Array, threat: ThreatModel, restarts: int
) -> tuple[str, jax.Array | None]:
    """The start's name, and its images if they are given."""
    if not isinstance(start, str):
        if getattr(start, "shape", None) != images.shape:
            raise UserError(
                f"start has shape {getattr(start, 'shape', None)}; an array must have the images' "
                f"shape {images.shape}; otherwise give one of {', '.join(STARTS)}"
            )
        if not jnp.issubdtype(start.dtype, jnp.floating):
            raise UserError(f"start has dtype {start.dtype}; it must be floating like the images")
        values = known(start)
        if values is not None and not np.isfinite(values).all():
            raise UserError("start holds pixels that are NaN or infinite")
        if restarts > 1:
            raise UserError(
                f"restarts is {restarts} with an array as start; every restart would be the same"
            )
        return "array", jnp.asarray(start, images.dtype)
    if start not in STARTS:
        raise UserError(
            f"start is {start!r}; it must be one of {', '.join(STARTS)}, or an array"
            f"{did_you_mean(start, STARTS)}"
        )
    if start == "clean" and restarts > 1:
        raise UserError(
            f'restarts is {restarts} with start "clean"; every restart would be the same'
        )
    if start in ("uniform", "sign") and not has_finite_epsilon(threat):
        raise UserError(
            f"start {start!r} needs a finite epsilon, and threat.epsilon is {threat.epsilon}; "
            'use "gaussian", "clean" or an array'
        )
    return start, None


def checked_budget(budget: Any, steps: int, batch_size: int) -> jax.Array:
    """An int32 scalar or `[B]`, between 0 and the steps."""
    if budget is None:
        return jnp.asarray(steps, jnp.int32)
    if not jnp.issubdtype(strong("budget", budget).dtype, jnp.integer):
        raise UserError(f"budget is {budget}; it counts steps and must be of an integer type")
    values = known(budget)
    if values is not None and np.any((values < 0) | (values > steps)):
        raise UserError(f"budget is {budget}; it must lie between 0 and steps, which is {steps}")
    return per_row("budget", budget, batch_size, jnp.int32)


def checked_rule(stop: Any) -> Any:
    """A stop rule with arrays as leaves, or None."""
    if stop is None:
        return None
    if not all(hasattr(stop, part) for part in ("start", "check", "after_last_step")):
        raise UserError(
            f"stop is {stop!r}; it must be a rule of attacks.stopping, such as misclassified(0)"
        )
    if jax.tree_util.all_leaves([stop]):
        raise UserError(
            f"stop is a {type(stop).__name__}, which is no pytree; "
            "register it with jax.tree_util.register_dataclass"
        )
    return jax.tree.map(lambda leaf: strong("stop", leaf), stop)


def checked_logits(
    logits: Any,
    num_images: int,
    largest_class: tuple[str, int] | None,
    *,
    differentiable: bool = False,
) -> jax.Array:
    """Logits `[B, K]` as a model gave them, in at least float32.

    Args:
      logits: what it gave.
      num_images: B.
      largest_class: that there must be, and the argument that names it; None: not known.
      differentiable: whether a gradient is to be taken, which of whole numbers is zero.
    """
    if isinstance(logits, tuple):
        raise UserError(
            "logits_fn returned a tuple; return the logits only (Flax with mutable=...: take [0])"
        )
    if not hasattr(logits, "ndim"):
        raise UserError(f"logits_fn returned a {type(logits).__name__}; it must give [B, K] logits")
    if logits.ndim != 2 or len(logits) != num_images:
        raise UserError(
            f"logits_fn gave shape {logits.shape} for {num_images} images; it must give "
            "[B, K] logits"
        )
    if differentiable and not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UserError(
            f"logits_fn gives logits of dtype {logits.dtype}, which have no gradient; an attack by "
            "gradients needs floating ones, before they are rounded"
        )
    if largest_class is not None and largest_class[1] >= logits.shape[1]:
        name, number = largest_class
        raise UserError(
            f"{name} holds {number}, and logits_fn gives {logits.shape[1]} classes, counted from 0"
        )
    return logits.astype(at_least_float32(logits.dtype))
