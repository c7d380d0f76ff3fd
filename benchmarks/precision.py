"""The precisions that are compared, and how JAX is told which one it is."""

import jax

from robustjax.errors import UserError

PRECISIONS = ("float32", "tf32", "bfloat16")
"""float32 in full, float32 with TF32 products (NVIDIA GPUs only), and bfloat16 convolutions."""


def defaults() -> list[str]:
    """What is measured on this platform if nothing else is asked for."""
    return ["tf32", "bfloat16"] if jax.default_backend() == "gpu" else ["float32"]


def set_up(precision: str) -> None:
    """Sets the precision of JAX's products and convolutions in this process.

    Raises:
      UserError: TF32 where there is none.
    """
    if precision == "tf32" and jax.default_backend() != "gpu":
        raise UserError("--precision=tf32: only NVIDIA GPUs have it; use float32 or bfloat16")
    # On such GPUs JAX uses TF32 unless told otherwise.
    highest = "highest" if precision == "float32" else None
    jax.config.update("jax_default_matmul_precision", highest)
