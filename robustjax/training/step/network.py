"""A Flax network bound to one set of variables, as the training methods see it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax.models.dropout import Places
from robustjax.models.forward import forward

PyTree = Any


@dataclasses.dataclass(frozen=True)
class BoundNetwork:
    """A network, its parameters and its running batch-norm statistics; never changed in place.

    Attributes:
      model: the Flax module; called with `train` and `batch_statistics`.
      params: its parameters.
      statistics: its "batch_stats" collection; empty for a network without batch norm.
      remat: whether the gradient of a training pass computes all of its activations again in place
        of keeping them: for networks without residual blocks, which do that block by block. Of
        several passes only one is then in memory at a time.
      places: where the rows belong that `train` sees, if they are a part of the device's batch;
        handed to a network with dropout.
    """

    model: nn.Module
    params: PyTree
    statistics: PyTree
    remat: bool = False
    places: Places | None = None

    def logits_fn(self, batch_norm: str = "eval") -> Callable[[jax.Array], jax.Array]:
        """For attacks: images -> logits without dropout; the running statistics stay as they are.

        Args:
          batch_norm: "eval" normalises with the running statistics, "train" with the batch's.
        """
        variables = self._variables()
        if batch_norm == "eval":
            return lambda images: forward(self.model, variables, images)

        def logits_of_batch(images: jax.Array) -> jax.Array:
            logits, _ = self.model.apply(
                variables, images, train=False, batch_statistics=True, mutable=["batch_stats"]
            )
            return logits

        return logits_of_batch

    def train(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, "BoundNetwork"]:
        """One outer forward pass with dropout and batch statistics.

        Args:
          images: float32 [B, H, W, C]; or the batch several times over, one after the other.
          key: draws the dropout masks.

        Returns:
          Logits [B, K], and the network with its running statistics moved towards the batch's.
        """
        options = {"rngs": {"dropout": key}, "mutable": ["batch_stats"], **self._modes(len(images))}

        def apply(variables: PyTree, images: jax.Array) -> tuple[jax.Array, PyTree]:
            return self.model.apply(variables, images, train=True, **options)

        apply = jax.checkpoint(apply) if self.remat else apply
        logits, mutated = apply(self._variables(), images)
        statistics = mutated.get("batch_stats", self.statistics)
        return logits, dataclasses.replace(self, statistics=statistics)

    def _modes(self, rows: int) -> dict[str, Any]:
        """What the network has to be told of its rows."""
        if self.places is None or not getattr(self.model, "dropout", 0.0):
            return {}
        copies = rows // len(self.places.rows)
        index = [copy * self.places.total + self.places.rows for copy in range(copies)]
        return {"places": Places(jnp.concatenate(index), copies * self.places.total)}

    def _variables(self) -> PyTree:
        if not self.statistics:
            return {"params": self.params}
        return {"params": self.params, "batch_stats": self.statistics}
