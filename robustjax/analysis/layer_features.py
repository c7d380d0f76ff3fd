"""The output of a layer of a Flax network, chosen by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robustjax.analysis.model_statistics import Progress, float_images
from robustjax.batching import batches_of_one_shape
from robustjax.errors import UserError

PENULTIMATE = "penultimate"
"""Names the input of the last dense layer, whatever the network calls what makes it."""


def layer_names(model: nn.Module, variables: Any, images: np.ndarray) -> tuple[str, ...]:
    """The names that `layer_features` accepts, in the order in which the layers are done.

    A layer inside another one is written with a slash, "layer1_0/conv1", as its variables are.

    Args:
      model: called as `model.apply(variables, images, train=False)`.
      variables: its weights and statistics.
      images: [N, H, W, C] of the network's size, at least one.
    """
    some = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
    return tuple(name for name, _ in _shapes(model, variables, some))


def layer_features(
    model: nn.Module,
    variables: Any,
    images: np.ndarray,
    layer: str = PENULTIMATE,
    *,
    batch_size: int = 128,
    report: Progress | None = None,
) -> np.ndarray:
    """What a layer gives for images, with running statistics.

    Args:
      model: called as `model.apply(variables, images, train=False)`.
      variables: its weights and statistics.
      images: uint8, or float in [0, 1], [N, H, W, C].
      layer: one of `layer_names`, or "penultimate". A layer that is called several times gives its
        last output.
      batch_size: images at once.
      report: told after every batch.

    Returns:
      float32 [N, D]: of an image, all entries of the layer's output.

    Raises:
      ValueError: the network has no such layer; the message lists those that it has.
    """
    accepted = layer_names(model, variables, images)
    if layer not in accepted:
        raise UserError(
            f"layer={layer}: the network has no such layer; accepted are {', '.join(accepted)}"
        )
    total, found = len(images), []
    size = min(batch_size, total)
    compute = jax.jit(functools.partial(_output_of, model, layer))
    for batch in batches_of_one_shape(total, size):
        output = compute(variables, jnp.asarray(float_images(images[batch.rows])))
        found.append(batch.without_filling(output))
        if report is not None:
            report(f"layer {layer}", batch.done, total)
    return np.concatenate(found)


def _output_of(model: nn.Module, layer: str, variables: Any, images: jax.Array) -> jax.Array:
    output = dict(_outputs(model, variables, images))[layer]
    return output.reshape(len(images), -1).astype(jnp.float32)


def _shapes(model: nn.Module, variables: Any, images: Any) -> list[tuple[str, Any]]:
    shapes: list[tuple[str, Any]] = []

    def observe(variables, images):
        # A list keeps the order, which a dictionary that passes through JAX does not.
        found = _outputs(model, variables, images)
        shapes.extend((name, output.shape) for name, output in found)
        return jnp.zeros(())

    jax.eval_shape(observe, variables, images)
    return shapes


def _outputs(model: nn.Module, variables: Any, images: jax.Array) -> list[tuple[str, jax.Array]]:
    """Every layer's output [B, ...] by its name, and the input of the last dense layer."""
    found: dict[str, jax.Array] = {}

    def observe(call: Callable[..., Any], arguments: Any, options: Any, context: Any) -> Any:
        output = call(*arguments, **options)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and name and isinstance(output, jax.Array):
            if isinstance(context.module, nn.Dense):
                found.pop(PENULTIMATE, None)
                found[PENULTIMATE] = arguments[0]
            found[name] = output
        return output

    with nn.intercept_methods(observe):
        model.apply(variables, images, train=False)
    batch = images.shape[:1]
    return [(name, output) for name, output in found.items() if output.shape[:1] == batch]
