"""`python -m benchmarks.ahead_of_time.convolutions JSON`: compiles convolutions for one chip.

Prints one line of JSON. `benchmarks.channels` starts it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Sharding, SingleDeviceSharding

from benchmarks.ahead_of_time import apart, program, targets
from benchmarks.ahead_of_time.steps import Row

SIDES = {16: 32, 32: 32, 64: 32, 160: 32, 256: 32, 320: 16, 512: 16, 640: 8, 1024: 8}
"""Channels -> height and width of the images that have as many, in ResNets and wide ResNets."""

PRODUCT = 8192
"""Rows and columns of the matrix product beside them: as much of the rate as there is to be had."""

DIRECTIONS = ("forward", "by images", "by kernel")


def measure(task: dict[str, Any]) -> Row:
    """Compiles 3×3 convolutions between as many channels, their gradients, and a matrix product.

    Args:
      task: "target", its name; "images", how many.

    Returns:
      "rows": of each its channels (0: the product), direction, operations and estimated cycles.
    """
    target = targets.parse(task["target"])
    topology = topologies.get_topology_desc(**target.description())
    chip = SingleDeviceSharding(topology.devices[0])
    rows = [_row(0, "forward", 2 * PRODUCT**3, _cycles(jnp.dot, chip, *2 * [2 * [PRODUCT]]))]
    for channels, side in SIDES.items():
        images, kernel = (task["images"], side, side, channels), (3, 3, channels, channels)
        operations = 2 * 9 * channels**2 * task["images"] * side**2
        for direction, (function, shapes) in _passes(images, kernel).items():
            rows.append(_row(channels, direction, operations, _cycles(function, chip, *shapes)))
    return {"rows": rows}


def _row(channels: int, direction: str, operations: int, cycles: int) -> Row:
    return {"channels": channels, "direction": direction, "flops": operations, "cycles": cycles}


def _passes(
    images: tuple[int, ...], kernel: tuple[int, ...]
) -> dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]]:
    """A convolution and its two gradients, each with the shapes of its arguments."""

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=layout
        )

    def by_images(kernel: jax.Array, cotangent: jax.Array) -> Any:
        of_images = jax.ShapeDtypeStruct(images, jnp.bfloat16)
        return jax.linear_transpose(lambda images: convolve(images, kernel), of_images)(cotangent)

    def by_kernel(images: jax.Array, cotangent: jax.Array) -> Any:
        of_kernel = jax.ShapeDtypeStruct(kernel, jnp.bfloat16)
        return jax.linear_transpose(lambda kernel: convolve(images, kernel), of_kernel)(cotangent)

    return {
        "forward": (convolve, [images, kernel]),
        "by images": (by_images, [kernel, images]),
        "by kernel": (by_kernel, [images, images]),
    }


def _cycles(function: Callable[..., Any], chip: Sharding, *shapes: Any) -> int:
    """Of the operations that multiply: others bring an argument into another layout."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=chip) for shape in shapes]
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))
    return program.summarise(lowered.compile().as_text()).product_cycles


if __name__ == "__main__":
    apart.answer(measure)
