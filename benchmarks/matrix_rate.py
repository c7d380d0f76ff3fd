"""The device's matrix rate: the most operations per second that a large product reaches."""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def best_rate(
    product: Callable[[], object],
    size: int,
    *,
    repeats: int = 8,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations per second of the fastest of several products, for the rate is a bound.

    Args:
      product: multiplies two matrices [size, size] and waits for the result.
      size: of the matrices.
      repeats: how many products are timed; one more comes first and is not.
      clock: seconds.
    """
    product()
    best = float("inf")
    for _ in range(repeats):
        started = clock()
        product()
        best = min(best, clock() - started)
    return 2 * size**3 / best


def default_size() -> int:
    """Large enough for the device to be as fast as it gets."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def jax_product(size: int, precision: str) -> Callable[[], object]:
    """A function that multiplies two square matrices and waits for the product.

    Args:
      size: of the matrices.
      precision: "float32", "tf32" or "bfloat16"; the caller has set JAX's matmul precision for it.
    """
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    left, right = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in (0, 1))
    matmul = jax.jit(jnp.matmul)
    return lambda: matmul(left, right).block_until_ready()
