"""Natural training: the cross-entropy of clean images, the reference without robustness."""

import jax.numpy as jnp

from robustjax import losses
from robustjax.methods.method import Inner, Method, Objective, Outer, Perturbation
from robustjax.methods.standard import CITATION

__all__ = ["CITATION", "SUMMARY", "create"]

SUMMARY = "natural training: cross-entropy on clean images, no attack"


def create() -> Method:
    """Natural training: minimises CE(z(x), y).

    Source: the empirical risk minimisation that Madry et al. (2018), section 2, start from.
    """
    return Method(name="natural", perturb=_perturb, outer=_outer)


def _perturb(inner: Inner) -> Perturbation:
    no_passes = jnp.zeros(inner.batch.labels.shape, jnp.int32)
    return Perturbation(inner.batch.images, no_passes, inner.memory)


def _outer(outer: Outer) -> Objective:
    logits, network = outer.network.train(outer.batch.images, outer.key)
    return Objective(losses.cross_entropy(logits, outer.batch.labels), network.statistics)
