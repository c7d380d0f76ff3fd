"""Dropout whose mask follows an example's place in the global batch, not the device it is on."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class Places(NamedTuple):
    """Where the rows of a forward pass belong that sees only a part of the device's batch.

    Attributes:
        rows: int32 [B], the place of each row among those of the device.
        total: how many rows the device has in all.
    """

    rows: jax.Array
    total: int


class ExampleDropout(nn.Module):
    """Zeroes each unit with probability `rate` and divides the others by `1 - rate`.

    The mask of example i is drawn from `fold_in(key, position)`, where the position is i plus the
    number of examples on the devices before this one. With the same key on every device, a batch
    therefore gets the same masks however many devices share it, and in however many parts.

    Attributes:
        rate: probability of zeroing a unit, in [0, 1).
        axis_name: the mapped axis that the batch is split over; None counts positions locally.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, inputs: jax.Array, *, train: bool, places: Places | None = None
    ) -> jax.Array:
        """Drops units of `inputs` [B, ...] where `train`, and needs the rng "dropout" only then.

        Without `places` the inputs are all rows of the device, in order.
        """
        if not train or self.rate == 0.0:
            return inputs
        rows = len(inputs)
        positions, total = places or Places(jnp.arange(rows), rows)
        if self.axis_name is not None and not self.is_initializing():
            positions += jax.lax.axis_index(self.axis_name) * total
        key = self.make_rng("dropout")
        keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
        keep = jax.vmap(
            lambda key: jax.random.bernoulli(key, 1.0 - self.rate, inputs.shape[1:]),
        )(keys)
        return jnp.where(keep, inputs / (1.0 - self.rate), jnp.zeros_like(inputs))
