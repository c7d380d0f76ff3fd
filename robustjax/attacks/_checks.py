"""What every attack takes, checked and brought into one form.

Equivalent arguments (a Python float, a NumPy float64, a float32 array) leave here with one shape
and one strong dtype, so that they share one compiled program. Shapes and dtypes are checked always,
values where they are known.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.arguments import checked_function, checked_number, refusal, require_choice, shown
from robustjax.arguments.arrays import (
    as_array,
    at_least_float32,
    check_distributions,
    checked_classes,
    kind,
    known,
    per_row,
)
from robustjax.attacks.threat_model import SPARSITY, ThreatModel
from robustjax.errors import UserError
from robustjax.step_size import ReachWarning, reach_complaint

STARTS = ("uniform", "gaussian", "sign", "clean")

_BOX_ROUNDING = 1e-6
"""Of the box's width: what a pixel may lie beyond it, as where it was normalised and came back."""


def checked_logits_fn(logits_fn: Any) -> None:
    """Refuses what is no network."""
    checked_function(
        "logits_fn", logits_fn, "functions of images [B, H, W, C] that give logits [B, K]"
    )


def checked_images(images: Any) -> jax.Array:
    """Floating images `[B, ...]`, at least float32."""
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise refusal("images", type(images).__name__, "arrays [B, H, W, C]")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        accepted = "floating ones; convert pixels 0 to 255 to float32 and divide by 255"
        raise refusal("images", kind(images), accepted)
    if images.ndim < 1:
        raise refusal("images", kind(images), "arrays [B, H, W, C]")
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
        raise UserError("images holds pixels that are NaN or infinite: accepted are finite ones")
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
            f"images holds pixels from {values.min():.6g} to {values.max():.6g}: accepted are "
            f"those inside of threat.bounds, ({np.min(low):.6g}, {np.max(high):.6g})"
        )


def checked_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`, or soft ones `[B, K]`, distributions."""
    array = as_array("labels", labels)
    integers = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim == 1
    probabilities = jnp.issubdtype(array.dtype, jnp.floating) and array.ndim == 2
    if not (integers or probabilities) or len(array) != batch_size:
        accepted = f"integers [{batch_size}], and probabilities [{batch_size}, K]"
        raise refusal("labels", kind(array), accepted)
    if probabilities:
        check_distributions("labels", labels)
        return array
    return checked_classes("labels", labels)


def checked_hard_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`."""
    array = checked_labels(labels, batch_size)
    if array.ndim != 1:
        raise UserError("labels holds probabilities: accepted are classes, integers [B]")
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
    array = as_array("targets", targets)
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape != (batch_size,):
        accepted = f"integers [{batch_size}], the class that each image is to reach"
        raise refusal("targets", kind(array), accepted)
    return checked_classes("targets", targets)


def checked_target(target: Any, batch_size: int) -> Any:
    """A pytree of arrays `[B, ...]`."""
    target = jax.tree.map(lambda leaf: as_array("target", leaf), target)
    for leaf in jax.tree.leaves(target):
        if leaf.ndim == 0 or len(leaf) != batch_size:
            raise refusal("target", kind(leaf), f"arrays [{batch_size}, ...], a row for each image")
    return target


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
        raise refusal("threat", type(threat).__name__, "values of ThreatModel")
    return threat


def checked_threat(threat: Any, batch_size: int, dtype: Any) -> ThreatModel:
    """A threat model whose leaves are scalars or `[B]` of the images' dtype."""
    threat = checked_threat_type(threat)
    epsilon = per_row("threat.epsilon", threat.epsilon, batch_size, dtype)
    values = known(threat.epsilon)
    if values is not None and not np.all(values >= 0):
        raise refusal("threat.epsilon", shown(threat.epsilon), "numbers, 0 or more")
    bounds = threat.bounds
    if bounds is not None:
        low, high = bounds = tuple(
            per_row("threat.bounds", bound, batch_size, dtype) for bound in bounds
        )
        lowest, highest = known(low), known(high)
        if lowest is not None and highest is not None:
            if not np.all(lowest <= highest):
                accepted = "numbers, of which low does not exceed high"
                raise refusal("threat.bounds", shown(threat.bounds), accepted)
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


def checked_sparsity(sparsity: Any, norm: str) -> float:
    """The share of the pixels that a step moves under "l1"; refused under other norms.

    Args:
      sparsity: that share; None: `threat_model.SPARSITY`, under other norms too, where it says
        nothing.
      norm: of the ball.
    """
    if sparsity is None:
        return SPARSITY
    share = checked_number("sparsity", sparsity, 0, 1)
    if norm != "l1":
        raise UserError(
            f"sparsity={share:g} under the norm {norm}: accepted under l1 alone, where a step "
            "moves that share of the pixels"
        )
    return share


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
            came = kind(start) if hasattr(start, "shape") else shown(start)
            accepted = f"{', '.join(STARTS)}, and arrays of the images' shape {list(images.shape)}"
            raise refusal("start", came, accepted)
        if not jnp.issubdtype(start.dtype, jnp.floating):
            raise refusal("start", kind(start), "floating arrays like the images")
        values = known(start)
        if values is not None and not np.isfinite(values).all():
            raise UserError("start holds pixels that are NaN or infinite: accepted are finite ones")
        if restarts > 1:
            raise UserError(
                f"restarts={restarts} with an array as start: every restart would be the same"
            )
        return "array", jnp.asarray(start, images.dtype)
    require_choice("start", start, STARTS)
    if start == "clean" and restarts > 1:
        raise UserError(f"restarts={restarts} with start=clean: every restart would be the same")
    if start in ("uniform", "sign") and not has_finite_epsilon(threat):
        raise UserError(
            f"start={start} needs a finite epsilon, and threat.epsilon is {threat.epsilon}: "
            "accepted are gaussian, clean and an array"
        )
    return start, None


def checked_budget(budget: Any, steps: int, batch_size: int) -> jax.Array:
    """An int32 scalar or `[B]`, between 0 and the steps."""
    if budget is None:
        return jnp.asarray(steps, jnp.int32)
    values = known(budget)
    whole = jnp.issubdtype(as_array("budget", budget).dtype, jnp.integer)
    if not whole or (values is not None and np.any((values < 0) | (values > steps))):
        raise refusal("budget", shown(budget), f"whole numbers, 0 to {steps}, the steps")
    return per_row("budget", budget, batch_size, jnp.int32)


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
        accepted = "logits alone (Flax with mutable=...: take [0])"
        raise refusal("logits_fn: logits", "a tuple", accepted)
    if not hasattr(logits, "ndim"):
        raise refusal("logits_fn: logits", type(logits).__name__, "arrays [B, K]")
    if logits.ndim != 2 or len(logits) != num_images:
        raise refusal("logits_fn: logits", kind(logits), f"[{num_images}, K], a row for each image")
    if differentiable and not jnp.issubdtype(logits.dtype, jnp.floating):
        accepted = "floating ones, before they are rounded: an attack by gradients needs them"
        raise refusal("logits_fn: logits", kind(logits), accepted)
    if largest_class is not None and largest_class[1] >= logits.shape[1]:
        name, number = largest_class
        raise UserError(
            f"{name} holds {number}, and logits_fn gives {logits.shape[1]} classes, counted from 0"
        )
    return logits.astype(at_least_float32(logits.dtype))
