"""Where a network's passes spend their time: they are timed cut off after each convolution."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import results, table
from benchmarks.matrix_rate import best_rate, default_size, jax_product
from benchmarks.timing import Side, alternate
from robustjax import models
from robustjax.errors import UserError
from robustjax.models import flops

DESCRIPTION = """\
Times a network's passes layer by layer: cut off after each convolution, in loops as in an attack.

  python -m benchmarks layers --output=layers.json             # the small CNN of MNIST
  python -m benchmarks layers --models=digits_cnn --image=8,8,1 --batch_size=32 --at_once=1

A layer's time is what the passes take more than those that end one convolution before, round by
round, so that an activation or a pool counts to the convolution that follows it. The gradient is
that by the images, without the forward pass. AutoAttack computes 16 images at a time for each core,
which is what is timed: --batch_size images in each of --at_once threads. The floor is what direct
convolutions take at the rate of the fastest large matrix product."""

GROUPS = {
    "what": ["models", "image"],
    "size": ["batch_size", "at_once", "turns", "rounds"],
    "run": ["output"],
}

REST = "the rest"
"""Behind the last convolution: next to nothing, and of no floor worth its name."""

Row = dict[str, Any]
Pass = Callable[[jax.Array], jax.Array]

HEADER = (
    "network", "layer", "forward, ms", "floor", "of the floor", "gradient, ms", "of the floor",
)  # fmt: skip


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("models", ["small_cnn"], "networks")
    flags.DEFINE_list("image", ["28", "28", "1"], "height, width and channels of an image")
    flags.DEFINE_integer("batch_size", 16, "images of a thread", lower_bound=1)
    flags.DEFINE_integer("at_once", results.usable_cores(), "threads", lower_bound=1)
    flags.DEFINE_integer("turns", 20, "of the loop that is timed", lower_bound=1)
    flags.DEFINE_integer("rounds", 25, "how often; the median counts", lower_bound=1)
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Times what the flags ask for; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    shape = (values.batch_size, *image_of(values.image))
    for model in values.models:
        models.describe(model)
    environment = results.environment()
    print(results.describe(environment), flush=True)
    size = default_size()
    rate = best_rate(jax_product(size, "float32"), size)
    rows: list[Row] = []
    for model in values.models:
        found = measure(model, shape, values.at_once, turns=values.turns, rounds=values.rounds)
        rows += [row | {"model": model, "matrix_flops_per_second": rate} for row in found]
        results.write(values.output, environment, rows)
    print(table.markdown(HEADER, [entries(row) for row in rows]))


def image_of(given: Sequence[str]) -> tuple[int, ...]:
    """Height, width and channels.

    Raises:
      UserError: the texts are no three sizes.
    """
    if len(given) != 3 or not all(size.isdecimal() and int(size) for size in given):
        raise UserError(f"--image={','.join(given)}: accepted are three sizes, as 28,28,1")
    return tuple(map(int, given))


def measure(
    model: str, shape: tuple[int, ...], at_once: int, *, turns: int, rounds: int
) -> list[Row]:
    """The medians of each layer's seconds, a forward pass and a gradient of all threads.

    Args:
      model: the network's name.
      shape: of a thread's images, [B, H, W, C].
      at_once: threads, each with images of its own.
      turns: of the loop around a pass.
      rounds: how often everything is timed.
    """
    images = jax.random.uniform(jax.random.key(1), shape)
    passes = cut_passes(model, shape)
    with ThreadPoolExecutor(at_once) as threads:
        sides = {}
        for number, cut in enumerate(passes):
            for kind, looped in (("forward", _forwards), ("gradient", _gradients)):
                program = jax.jit(looped(cut, turns)).lower(images).compile()
                sides[f"{kind} {number}"] = Side(
                    functools.partial(_in_all, threads, at_once, program, images)
                )
        seconds = alternate(sides, rounds)
    forward, both = (
        np.array([seconds[f"{kind} {number}"] for number in range(len(passes))]) / turns
        for kind in ("forward", "gradient")
    )
    operations = [at_once * flops.count(cut, images) for cut in passes]
    columns = zip(
        [*(f"conv {number}" for number in range(1, len(passes))), REST],
        _added(forward).tolist(),
        _added(both - forward).tolist(),
        np.diff(operations, prepend=0).tolist(),
        strict=True,
    )
    return [
        dict(zip(("layer", "forward", "gradient", "flops"), row, strict=True)) for row in columns
    ]


def _added(seconds: np.ndarray) -> np.ndarray:
    """What each pass takes more than the one before: the median of the rounds, [passes]."""
    return np.median(np.diff(seconds, axis=0, prepend=0), axis=1)


def cut_passes(model: str, shape: tuple[int, ...]) -> list[Pass]:
    """The network in float32, cut off after each of its convolutions, and at last whole."""
    network = models.create(model)
    variables = network.init(jax.random.key(0), jnp.zeros((1, *shape[1:])))
    found: list[Pass] = []
    convolutions = _count_convolutions(network, variables, shape)
    for number in range(1, convolutions + 1):
        found.append(functools.partial(_cut_off, network, variables, number))
    return [*found, lambda images: network.apply(variables, images)]


class _Reached(Exception):
    """Carries what a convolution gave out of the network."""


def _cut_off(network: Any, variables: Any, number: int, images: jax.Array) -> jax.Array:
    """The result of the network's convolution of a number, from 1 on."""
    reached = 0

    def stop_there(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        nonlocal reached
        result = call(*arguments, **options)
        reached += isinstance(context.module, nn.Conv)
        if reached == number:
            raise _Reached(result)
        return result

    with nn.intercept_methods(stop_there):
        try:
            network.apply(variables, images)
        except _Reached as stopped:
            (result,) = stopped.args
            return result
    raise AssertionError(f"{number}: the network has {reached} convolutions")


def _count_convolutions(network: Any, variables: Any, shape: tuple[int, ...]) -> int:
    found = 0

    def count(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        nonlocal found
        found += isinstance(context.module, nn.Conv)
        return call(*arguments, **options)

    with nn.intercept_methods(count):
        jax.eval_shape(network.apply, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    return found


def _forwards(cut: Pass, turns: int) -> Pass:
    """Passes one after the other, each on what depends on the result before."""

    def turn(_: int, images: jax.Array) -> jax.Array:
        result = jax.lax.optimization_barrier(cut(images))
        return images + 1e-6 * result.reshape(len(result), -1)[:, :1, None, None]

    return lambda images: jax.lax.fori_loop(0, turns, turn, images)


def _gradients(cut: Pass, turns: int) -> Pass:
    """Passes and their gradients by the images, one after the other."""
    gradient = jax.grad(lambda images: jnp.sum(cut(images) ** 2))
    return lambda images: jax.lax.fori_loop(
        0, turns, lambda _, images: images + 1e-6 * gradient(images), images
    )


def _in_all(threads: ThreadPoolExecutor, at_once: int, program: Pass, images: jax.Array) -> None:
    jax.block_until_ready(list(threads.map(program, [images] * at_once)))


def entries(row: Row) -> Sequence[str]:
    """One row of the table."""
    floor = row["flops"] / row["matrix_flops_per_second"]
    shares = [
        f"{100 * floor / row[kind]:.0f} %" if row["layer"] != REST and row[kind] > 0 else "-"
        for kind in ("forward", "gradient")
    ]
    forward, gradient = (f"{1e3 * max(row[kind], 0):.2f}" for kind in ("forward", "gradient"))
    return [
        row["model"],
        row["layer"],
        forward,
        f"{1e3 * floor:.2f}",
        shares[0],
        gradient,
        shares[1],
    ]
