"""The outer minimisation's loss and its gradient, on one device and perhaps part by part."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax.methods import Batch, Method, Outer, Perturbation
from robustjax.models.dropout import Places
from robustjax.training.step import microbatch
from robustjax.training.step.network import BoundNetwork
from robustjax.training.step.settings import StepSettings

PyTree = Any


class Slope(NamedTuple):
    """The loss at some weights, how it changes, and what the passes left.

    Attributes:
      loss: this device's share of the weighted mean over the whole batch.
      gradient: of that share by the weights.
      statistics: of batch norm, after the passes.
      by_images: the gradient [B, H, W, C] by the perturbed images; None unless asked for.
    """

    loss: jax.Array
    gradient: PyTree
    statistics: PyTree
    by_images: jax.Array | None


@dataclasses.dataclass(frozen=True)
class OuterLoss:
    """The method's outer loss as a function of the weights, everything else being given.

    Attributes:
      model: the network.
      method: whose loss it is.
      settings: of the step.
      statistics: of batch norm, before the passes.
      batch: the clean images, their labels and weights.
      total_weight: of the batch over all devices.
      perturbation: what the inner maximisation found.
      dropout_key: draws the masks.
      scalars: the method's numeric hyper-parameters at this step.
    """

    model: nn.Module
    method: Method
    settings: StepSettings
    statistics: PyTree
    batch: Batch
    total_weight: jax.Array
    perturbation: Perturbation
    dropout_key: jax.Array
    scalars: Mapping[str, jax.Array]

    def differentiate(self, params: PyTree, *, by_images: bool = False) -> Slope:
        """The loss and its gradient by the weights, and by the perturbed images if wanted.

        Parts follow each other; every one goes on with the statistics that the last one left.
        """
        variables = (0, 1) if by_images else (0,)
        slope_of = jax.value_and_grad(self._share_of, variables, has_aux=True)

        def of_part(part: _Part, statistics: PyTree) -> tuple[PyTree, PyTree, PyTree]:
            (loss, statistics), (gradient, *image_gradient) = slope_of(
                params, part.perturbation.images, part, statistics
            )
            return image_gradient, statistics, (loss, gradient)

        rows = _Part(self.batch, self.perturbation, jnp.arange(len(self.batch.labels)))
        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        image_gradient, statistics, (loss, gradient) = microbatch.sum_parts(
            of_part, rows, self.statistics, zero, self.settings.microbatch
        )
        return Slope(loss, gradient, statistics, *image_gradient or [None])

    def _share_of(
        self, params: PyTree, images: jax.Array, part: "_Part", statistics: PyTree
    ) -> tuple[jax.Array, PyTree]:
        """The part's share of the loss, and the statistics after it."""
        places = None
        if self.settings.microbatch:
            places = Places(part.places, len(self.batch.labels))
        network = BoundNetwork(self.model, params, statistics, self.settings.remat, places)
        seen = part.perturbation._replace(images=images)
        objective = self.method.outer(
            Outer(self.dropout_key, network, part.batch, seen, self.scalars)
        )
        share = jnp.sum(part.batch.weight * objective.loss) / self.total_weight
        return share, objective.statistics


class _Part(NamedTuple):
    """Rows of the batch, what was found for them, and their places on the device [N]."""

    batch: Batch
    perturbation: Perturbation
    places: jax.Array
