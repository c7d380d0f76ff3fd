"""What holds for a network: variables, logits of each image alone, and its modes."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from robustjax import models
from robustjax.testing.broken_rule import (
    BATCH,
    KEPT,
    broken,
    have_one_form,
    require,
    require_finite_numbers,
    require_rows,
    same,
)

_SHAPE, _CLASSES = (8, 8, 1), 3


def check_model(
    build: Callable[..., Any] | str | Any,
    *,
    image_shape: Sequence[int] = _SHAPE,
    num_classes: int = _CLASSES,
) -> None:
    """Tries the rules of networks on one that is yours.

    They are: `build(num_classes=...)` gives a network that can be hashed; `init(key, images)` gives
    variables, floating "params" and perhaps "batch_stats"; `apply(variables, images, train=False)`
    gives finite float32 logits [B, num_classes], for a batch of any size, those of an image
    whatever the others are; their gradient by the images is not 0; `train=True` with
    `mutable=["batch_stats"]` gives them beside the moved statistics, in the same form; and so does
    `train=False, batch_statistics=True`, where there are statistics.

    Args:
      build: of the network; or the network; or a name as `models.create` takes it.
      image_shape: (H, W, C) of images that it takes.
      num_classes: that is asked for.

    Raises:
      BrokenRule: names the first rule that does not hold.

    Example:
      >>> check_model("digits_cnn")
    """
    subject = f"model {build if isinstance(build, str) else _name(build)}"
    model = _built(build, num_classes, subject)
    for part in ("init", "apply"):
        there = callable(getattr(model, part, None)) and not isinstance(model, type)
        accepted = "networks with init(key, images) and apply(variables, images)"
        require(there, subject, f"{type(model).__name__} has no {part}; accepted are {accepted}")
    try:
        hash(model)
    except TypeError as error:
        broken(subject, f"it cannot be hashed ({error}); make its fields tuples and numbers")
    random = np.random.default_rng(0)
    images = jnp.asarray(random.uniform(size=(BATCH, *image_shape)), jnp.float32)
    variables = model.init(jax.random.key(0), images[:1])
    _check_variables(variables, subject)

    def logits_of(images: jax.Array) -> jax.Array:
        return model.apply(variables, images, train=False)

    found = _called(logits_of, subject, "apply(variables, images, train=False)", images)
    require_rows(found, subject, "its logits", (BATCH, num_classes), jnp.floating)
    require(found.dtype == jnp.float32, subject, f"its logits are {found.dtype}; accepted: float32")
    require_finite_numbers(found, subject, "its logits")
    require(same(found, logits_of(images)), subject, "with train=False its logits are random")
    alone = logits_of(images[KEPT])
    require(
        same(found[KEPT], alone, tolerance=1e-4),
        subject,
        "with train=False the logits of an image change with the others of the batch",
    )
    # Away from the initial weights: a last layer may begin at 0.
    moved = jax.tree.map(lambda leaf: leaf + 0.01, variables)
    slope = jax.grad(lambda x: jnp.sum(model.apply(moved, x, train=False) ** 2))(images)
    require_finite_numbers(slope, subject, "the gradient of its logits by the images")
    require(bool(jnp.any(slope != 0)), subject, "the gradient of its logits by the images is 0")
    _check_modes(model, variables, images, num_classes, subject)


def _name(build: Any) -> str:
    return getattr(build, "__name__", type(build).__name__)


def _built(build: Any, num_classes: int, subject: str) -> Any:
    if isinstance(build, str):
        return models.create(build, num_classes=num_classes)
    if not isinstance(build, type) and callable(getattr(build, "apply", None)):
        return build
    require(callable(build), subject, "it is no network, nor builds one")
    try:
        inspect.signature(build).bind(num_classes=num_classes)
    except TypeError as error:
        broken(subject, f"build(num_classes={num_classes}) cannot be called ({error})")
    return build(num_classes=num_classes)


def _called(function: Callable[..., Any], subject: str, call: str, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, flax.errors.FlaxError) as error:
        first = str(error).splitlines()[0]
        broken(subject, f"{call} cannot be called ({first})")


def _check_variables(variables: Any, subject: str) -> None:
    known = isinstance(variables, dict) and "params" in variables
    require(known, subject, "init gives no dictionary with 'params'")
    others = set(variables) - {"params", "batch_stats"}
    require(
        not others,
        subject,
        f"init gives the collections {', '.join(sorted(others))}; accepted are params and "
        "batch_stats",
    )
    for leaf in jax.tree.leaves(variables):
        floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        require(floating, subject, "init gives variables that are no floating point arrays")


def _check_modes(
    model: Any, variables: Any, images: jax.Array, num_classes: int, subject: str
) -> None:
    """What training asks of it."""
    modes: dict[str, dict[str, Any]] = {"train=True": {"train": True}}
    if variables.get("batch_stats"):
        options = {"train": False, "batch_statistics": True}
        modes["train=False, batch_statistics=True"] = options
    for said, options in modes.items():
        call = f'apply(variables, images, {said}, mutable=["batch_stats"])'

        def apply(options: dict[str, Any] = options) -> Any:
            return model.apply(
                variables,
                images,
                rngs={"dropout": jax.random.key(1)},
                mutable=["batch_stats"],
                **options,
            )

        found = _called(apply, subject, call)
        pair = isinstance(found, tuple) and len(found) == 2
        require(pair, subject, f"{call} gives {type(found).__name__}; accepted is a pair")
        logits, moved = found
        require_rows(logits, subject, f"of {call} logits", (BATCH, num_classes), jnp.floating)
        before, after = variables.get("batch_stats", {}), moved.get("batch_stats", {})
        alike = not before or have_one_form(before, after)
        require(alike, subject, f"of {call} the statistics have another form than those of init")
        if before:
            moves = not same(before, after)
            require(moves, subject, f"{call} leaves the statistics of batch norm as they were")
