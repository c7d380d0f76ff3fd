"""Checks that attacks make of their arguments, which also bring each into one form.

Equivalent arguments (a Python float, a NumPy float64, a float32 array) leave here with one shape
and one strong dtype, so that they share one compiled program. Shapes and dtypes are checked always,
values where they are known.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robustjax.attacks.threat_model import ThreatModel

STARTS = ("uniform", "gaussian", "sign", "clean")


def known(value: Any) -> np.ndarray | None:
    """The value on the host, or None while it is traced or where other processes hold a part."""
    leaves = jax.tree.leaves(value)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return None
    if any(isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in leaves):
        return None
    return np.asarray(value)


def strong(value: Any) -> jax.Array:
    """An array of the dtype that JAX would give the value, which no other dtype then overrides."""
    value = jnp.asarray(value)
    return jnp.asarray(value, value.dtype)


def checked_count(name: str, value: Any, minimum: int) -> int:
    """A Python int of at least the minimum."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} is {value!r}; it must be a Python int, at least {minimum}")
    return int(value)


def checked_number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite Python number in [low, high], which becomes a part of the compiled program."""
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not low <= value <= high or not np.isfinite(value):
        accepted = f"in [{low}, {high}]" if np.isfinite(high) else f"finite and at least {low}"
        raise ValueError(f"{name} is {value!r}; it must be a Python number, {accepted}")
    return float(value)


def checked_images(images: Any) -> jax.Array:
    """Floating images `[B, ...]`, at least float32."""
    if not hasattr(images, "dtype") or not hasattr(images, "shape"):
        raise ValueError(f"images is a {type(images).__name__}; it must be an array [B, H, W, C]")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images has dtype {images.dtype}; it must be floating. "
            "For pixels 0 to 255 convert to float32 and divide by 255"
        )
    if images.ndim < 1:
        raise ValueError("images is a single number; it must have shape [B, H, W, C]")
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    return jnp.asarray(images, jax.dtypes.canonicalize_dtype(dtype))


def checked_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`, or soft ones `[B, K]`."""
    array = strong(labels)
    integers = jnp.issubdtype(array.dtype, jnp.integer) and array.ndim == 1
    probabilities = jnp.issubdtype(array.dtype, jnp.floating) and array.ndim == 2
    if not (integers or probabilities) or len(array) != batch_size:
        raise ValueError(
            f"labels has shape {array.shape} and dtype {array.dtype} for {batch_size} images; "
            "it must be integers [B] or probabilities [B, K]"
        )
    if probabilities:
        return array
    values = known(labels)
    if values is not None and np.any(values < 0):
        raise ValueError(f"labels holds {values.min()}; classes are counted from 0")
    return array.astype(jnp.int32)


def checked_hard_labels(labels: Any, batch_size: int) -> jax.Array:
    """Hard labels int32 `[B]`."""
    array = checked_labels(labels, batch_size)
    if array.ndim != 1:
        raise ValueError("labels holds probabilities; this attack needs classes, integers [B]")
    return array


def largest_label(labels: jax.Array) -> int | None:
    """The largest hard label, or None: there is none, or it is not known."""
    values = known(labels)
    if values is None or values.ndim != 1 or not values.size:
        return None
    return int(values.max())


def checked_target(target: Any, batch_size: int) -> Any:
    """A pytree of arrays `[B, ...]`."""
    target = jax.tree.map(strong, target)
    for leaf in jax.tree.leaves(target):
        if leaf.ndim == 0 or len(leaf) != batch_size:
            raise ValueError(
                f"target has shape {leaf.shape}; its first axis must be that of the {batch_size} "
                "images"
            )
    return target


def per_row(name: str, value: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A scalar or `[B]` of the dtype."""
    value = jnp.asarray(value, dtype)
    if value.shape not in ((), (batch_size,)):
        raise ValueError(
            f"{name} has shape {value.shape}; it must be a scalar or one value for each of the "
            f"{batch_size} examples"
        )
    return value


def checked_step_size(step_size: Any, batch_size: int, dtype: Any) -> jax.Array:
    """A finite scalar or `[B]`, at least 0."""
    array = per_row("step_size", step_size, batch_size, dtype)
    values = known(step_size)
    if values is not None and not np.all(np.isfinite(values) & (values >= 0)):
        raise ValueError(f"step_size is {step_size}; it must be finite and at least 0")
    return array


def checked_noise(noise: Any, batch_size: int, dtype: Any) -> jax.Array | None:
    """A finite scalar or `[B]`, at least 0; None stays None."""
    if noise is None:
        return None
    array = per_row("noise", noise, batch_size, dtype)
    values = known(noise)
    if values is not None and not np.all(np.isfinite(values) & (values >= 0)):
        raise ValueError(f"noise is {noise}; it must be finite and at least 0")
    return array


def checked_threat_type(threat: Any) -> ThreatModel:
    """A threat model."""
    if not isinstance(threat, ThreatModel):
        raise ValueError(f"threat is a {type(threat).__name__}; it must be a ThreatModel")
    return threat


def checked_threat(threat: Any, batch_size: int, dtype: Any) -> ThreatModel:
    """A threat model whose leaves are scalars or `[B]` of the images' dtype."""
    threat = checked_threat_type(threat)
    epsilon = per_row("threat.epsilon", threat.epsilon, batch_size, dtype)
    values = known(threat.epsilon)
    if values is not None and not np.all(values >= 0):
        raise ValueError(f"threat.epsilon is {threat.epsilon}; it must be at least 0")
    bounds = threat.bounds
    if bounds is not None:
        low, high = (per_row("threat.bounds", bound, batch_size, dtype) for bound in bounds)
        bounds = (low, high)
    return dataclasses.replace(threat, epsilon=epsilon, bounds=bounds)


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
            raise ValueError(
                f"start has shape {getattr(start, 'shape', None)}; an array must have the images' "
                f"shape {images.shape}; otherwise give one of {', '.join(STARTS)}"
            )
        if not jnp.issubdtype(start.dtype, jnp.floating):
            raise ValueError(f"start has dtype {start.dtype}; it must be floating like the images")
        if restarts > 1:
            raise ValueError(
                f"restarts is {restarts} with an array as start; every restart would be the same"
            )
        return "array", jnp.asarray(start, images.dtype)
    if start not in STARTS:
        raise ValueError(f"start is {start!r}; it must be one of {', '.join(STARTS)}, or an array")
    if start == "clean" and restarts > 1:
        raise ValueError(
            f'restarts is {restarts} with start "clean"; every restart would be the same'
        )
    if start in ("uniform", "sign") and not has_finite_epsilon(threat):
        raise ValueError(
            f"start {start!r} needs a finite epsilon, and threat.epsilon is {threat.epsilon}; "
            'use "gaussian", "clean" or an array'
        )
    return start, None


def checked_budget(budget: Any, steps: int, batch_size: int) -> jax.Array:
    """An int32 scalar or `[B]`, between 0 and the steps."""
    if budget is None:
        return jnp.asarray(steps, jnp.int32)
    if not jnp.issubdtype(jnp.asarray(budget).dtype, jnp.integer):
        raise ValueError(f"budget is {budget}; it counts steps and must be of an integer type")
    values = known(budget)
    if values is not None and np.any((values < 0) | (values > steps)):
        raise ValueError(f"budget is {budget}; it must lie between 0 and steps, which is {steps}")
    return per_row("budget", budget, batch_size, jnp.int32)


def checked_rule(stop: Any) -> Any:
    """A stop rule with arrays as leaves, or None."""
    if stop is None:
        return None
    if not all(hasattr(stop, part) for part in ("start", "check", "after_last_step")):
        raise ValueError(
            f"stop is {stop!r}; it must be a rule of attacks.stopping, such as misclassified(0)"
        )
    if jax.tree_util.all_leaves([stop]):
        raise ValueError(
            f"stop is a {type(stop).__name__}, which is no pytree; "
            "register it with jax.tree_util.register_dataclass"
        )
    return jax.tree.map(strong, stop)


def checked_logits(logits: Any, num_images: int, largest_label: int | None) -> jax.Array:
    """Logits `[B, K]` as a model gave them, in at least float32."""
    if isinstance(logits, tuple):
        raise ValueError(
            "logits_fn returned a tuple; return the logits only (Flax with mutable=...: take [0])"
        )
    if not hasattr(logits, "ndim"):
        raise ValueError(
            f"logits_fn returned a {type(logits).__name__}; it must give [B, K] logits"
        )
    if logits.ndim != 2 or len(logits) != num_images:
        raise ValueError(
            f"logits_fn gave shape {logits.shape} for {num_images} images; it must give "
            "[B, K] logits"
        )
    if largest_label is not None and largest_label >= logits.shape[1]:
        raise ValueError(
            f"labels holds {largest_label}, and logits_fn gives {logits.shape[1]} classes, "
            "counted from 0"
        )
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
