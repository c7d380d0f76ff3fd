"""Natural training: the cross-entropy of clean images, the reference without robustness."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from robustjax import losses
from robustjax.methods.method import Batch, InnerAttack, Method, Network, Outer, Perturbation

SUMMARY = "natural training: cross-entropy on clean images, no attack"

CITATION = """\
@inproceedings{madry2018towards,
  title     = {Towards Deep Learning Models Resistant to Adversarial Attacks},
  author    = {Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and
               Tsipras, Dimitris and Vladu, Adrian},
  booktitle = {International Conference on Learning Representations},
  year      = {2018},
}"""


def create() -> Method:
    """Natural training: minimises CE(z(x), y).

    Source: the empirical risk minimisation that Madry et al. (2018), section 2, start from.
    """
    return Method(name="natural", perturb=_perturb, outer=_outer)


def _perturb(
    keys: jax.Array,
    network: Network,
    batch: Batch,
    attack: InnerAttack,
    scalars: Mapping[str, jax.Array],
    memory: object,
) -> Perturbation:
    return Perturbation(batch.images, jnp.zeros(batch.labels.shape, jnp.int32), memory)


def _outer(
    key: jax.Array,
    network: Network,
    batch: Batch,
    perturbation: Perturbation,
    scalars: Mapping[str, jax.Array],
) -> Outer:
    logits, network = network.train(batch.images, key)
    return Outer(losses.cross_entropy(logits, batch.labels), network.statistics)
