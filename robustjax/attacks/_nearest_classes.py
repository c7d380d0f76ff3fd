"""Which wrong class is the nearest, where a network is taken to be linear around an image."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from robustjax.attacks.engine import run as engine
from robustjax.attacks.engine.model import gradient_model
from robustjax.attacks.targets import RankedInputs, lead_of_target
from robustjax.attacks.threat_model import ThreatModel

CANDIDATES = 100
"""How many of the likeliest wrong classes are looked at; the others keep their places behind."""


def nearest_first(logits_fn: Callable[[jax.Array], jax.Array], inputs: RankedInputs) -> jax.Array:
    r"""The wrong classes in the order of :math:`|z_k - z_y| / \|\nabla (z_k - z_y)\|_q`.

    Costs a gradient for each candidate. Equally near ones stay in the order of their logits.

    Args:
      logits_fn: maps images `[B, ...]` to logits `[B, K]`.
      inputs: checked, with the likeliest classes first.

    Returns:
      int32 `[B, K - 1]`, in the place of `inputs.ranked`.

    Source: MALT Powers Up Adversarial Attacks (Melamed et al., 2024). Here q is the norm dual to
      the ball's, with which the ratio is the distance of a linear network's boundary.
    """
    candidates = inputs.ranked[:, :CANDIDATES]
    if not candidates.size:
        return inputs.ranked
    model = gradient_model(lead_of_target, logits_fn, inputs.labels)
    threat = inputs.threat.for_batch(len(inputs.images), inputs.images.dtype)
    distances = []
    for candidate in candidates.T:
        _, lead, gradient = engine.apply(model, inputs.images, (inputs.labels, candidate))
        distances.append(boundary_distance(lead, gradient, threat))
    order = jnp.argsort(jnp.stack(distances, axis=1), axis=1, stable=True)
    nearest = jnp.take_along_axis(candidates, order, axis=1)
    return jnp.concatenate([nearest, inputs.ranked[:, CANDIDATES:]], axis=1)


def boundary_distance(lead: jax.Array, gradient: jax.Array, threat: ThreatModel) -> jax.Array:
    """How far a linear network's images have to go until a class catches up.

    Args:
      lead: z_k - z_y, `[B]`.
      gradient: of the lead, `[B, ...]`.
      threat: whose norm counts.

    Returns:
      `[B]`; infinite where there is no gradient.
    """
    size = threat.dual_norm(gradient)
    return jnp.where(size > 0, jnp.abs(lead) / jnp.where(size > 0, size, 1), jnp.inf)
