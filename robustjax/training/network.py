"""A Flax network bound to one set of variables, as the training methods see it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

PyTree = Any


@dataclasses.dataclass(frozen=True)
class BoundNetwork:
    """A network, its parameters and its running batch-norm statistics; never changed in place.

    Attributes:
      model: the Flax module; called with `train` and `batch_statistics`.
      params: its parameters.
      statistics: its "batch_stats" collection; empty for a network without batch norm.
    """

    model: nn.Module
    params: PyTree
    statistics: PyTree

    def logits_fn(self, batch_norm: str = "eval") -> Callable[[jax.Array], jax.Array]:
        """For attacks: images -> logits without dropout; the running statistics stay as they are.

        Args:
          batch_norm: "eval" normalises with the running statistics, "train" with the batch's.
        """
        variables = self._variables()
        if batch_norm == "eval":
            return lambda images: self.model.apply(variables, images, train=False)

        def logits_of_batch(images: jax.Array) -> jax.Array:
            logits, _ = self.model.apply(
                variables, images, train=False, batch_statistics=True, mutable=["batch_stats"]
            )
            return logits

        return logits_of_batch

    def train(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, "BoundNetwork"]:
        """One outer forward pass with dropout and batch statistics.

        Args:
          images: float32 [B, H, W, C].
          key: draws the dropout masks.

        Returns:
          Logits [B, K], and the network with its running statistics moved towards the batch's.
        """
        logits, mutated = self.model.apply(
            self._variables(), images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
        statistics = mutated.get("batch_stats", self.statistics)
        return logits, dataclasses.replace(self, statistics=statistics)

    def _variables(self) -> PyTree:
        if not self.statistics:
            return {"params": self.params}
        return {"params": self.params, "batch_stats": self.statistics}
