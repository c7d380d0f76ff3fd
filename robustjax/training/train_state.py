"""Everything that training carries from one step to the next."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

PyTree = Any


class Totals(NamedTuple):
    """Sums over the epoch so far, kept on the device so that no step waits for the host."""

    weighted_loss: jax.Array
    weight: jax.Array
    backward_passes: jax.Array
    examples: jax.Array

    @classmethod
    def zero(cls) -> "Totals":
        """The totals before an epoch's first step."""
        return cls(*(jnp.zeros((), jnp.float32) for _ in cls._fields))


@flax.struct.dataclass
class TrainState:
    """The state of training, a pytree.

    Attributes:
      step: int32, how many steps have been taken.
      params: the network's parameters.
      statistics: its running batch-norm statistics.
      optimizer_state: Optax's.
      average: the exponential moving average of (params, statistics); empty when not asked for.
      memory: the method's per-example memory.
      totals: sums over the current epoch.
    """

    step: jax.Array
    params: PyTree
    statistics: PyTree
    optimizer_state: optax.OptState
    average: PyTree
    memory: PyTree
    totals: Totals

    def variables(self, averaged: bool = False) -> PyTree:
        """What `model.apply` takes; of the moving average if asked for and there is one."""
        params, statistics = self.params, self.statistics
        if averaged and self.average:
            params, statistics = self.average["params"], self.average["statistics"]
        if not statistics:
            return {"params": params}
        return {"params": params, "batch_stats": statistics}


def create_state(
    variables: PyTree, optimizer: optax.GradientTransformation, memory: PyTree, with_average: bool
) -> TrainState:
    """The state before the first step.

    Args:
      variables: of `model.init`.
      optimizer: its state is initialised for the parameters.
      memory: of the method's `init`.
      with_average: whether to keep a moving average of the weights.
    """
    params, statistics = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        statistics=statistics,
        optimizer_state=optimizer.init(params),
        average={"params": params, "statistics": statistics} if with_average else {},
        memory=memory,
        totals=Totals.zero(),
    )
