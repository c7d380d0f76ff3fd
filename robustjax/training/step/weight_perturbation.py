"""Adversarial weight perturbation (Wu et al., 2020): the worst direction for the weights."""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def adversarial_direction(params: PyTree, gradient: PyTree) -> PyTree:
    """The direction that raises the loss fastest, as long as the weights, tensor by tensor.

    v_l = ‖w_l‖ · g_l / ‖g_l‖ for every kernel w_l with gradient g_l; 0 for vectors (biases, batch
    norm) and where the gradient is 0. AWP takes the gradient of the loss at w + γ v and makes its
    step from w.

    Args:
      params: the weights.
      gradient: of the loss to raise, same structure.

    Returns:
      The direction, same structure.

    Source: Adversarial Weight Perturbation Helps Robust Generalization (Wu et al., 2020),
      with one step, and the authors' code, which leaves out what is no kernel.
    """

    def of_tensor(weight: jax.Array, slope: jax.Array) -> jax.Array:
        if weight.ndim < 2:
            return jnp.zeros_like(weight)
        length = jnp.linalg.norm(slope)
        scale = jnp.where(length > 0, jnp.linalg.norm(weight) / jnp.where(length > 0, length, 1), 0)
        return scale * slope

    return jax.tree.map(of_tensor, params, gradient)
