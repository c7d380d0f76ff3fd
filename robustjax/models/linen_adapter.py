"""A linen module whose `__call__` has other arguments than the networks here."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax


def no_modes(train: bool, batch_statistics: bool) -> dict[str, Any]:
    """Of a module that is the same in training and in evaluation."""
    del train, batch_statistics
    return {}


@dataclasses.dataclass(frozen=True)
class LinenAdapter:
    """See `from_linen`."""

    module: nn.Module
    modes: Callable[[bool, bool], Mapping[str, Any]]

    def init(self, key: jax.Array, images: jax.Array) -> Any:
        """See `models.Classifier`."""
        return self.module.init(key, images, **self.modes(False, False))

    def apply(
        self,
        variables: Any,
        images: jax.Array,
        *,
        train: bool = False,
        batch_statistics: bool | None = None,
        rngs: Mapping[str, jax.Array] | None = None,
        mutable: Any = False,
    ) -> Any:
        """See `models.Classifier`."""
        modes = self.modes(train, train if batch_statistics is None else batch_statistics)
        return self.module.apply(
            variables, images, **modes, rngs=dict(rngs) if rngs else None, mutable=mutable
        )


def from_linen(
    module: nn.Module, modes: Callable[[bool, bool], Mapping[str, Any]] = no_modes
) -> LinenAdapter:
    """A linen module with arguments of its own as a network that is trained and attacked.

    Args:
      module: maps images [B, H, W, C] in [0, 1] to logits [B, K].
      modes: (train, batch_statistics) -> the keyword arguments of its `__call__` that say whether
        dropout draws, and whether batch norm takes the batch's statistics. Without it there are
        none.

    Example:
      >>> import flax.linen as nn
      >>> network = from_linen(nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(10)]))
      >>> network.init(jax.random.key(0), jax.numpy.zeros((1, 8, 8, 1)))["params"].keys()
      dict_keys(['layers_1'])
    """
    return LinenAdapter(module, modes)
