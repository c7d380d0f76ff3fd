"""What a network has to be: two functions. Flax's linen modules are that; others are adapted."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp


@runtime_checkable
class Classifier(Protocol):
    """A network as training and evaluation call it; hashable, and changed by nothing.

    Variables are a dictionary of "params" and, with batch norm, "batch_stats": trees of floating
    point arrays under text keys.
    """

    def init(self, key: jax.Array, images: jax.Array) -> Any:
        """Draws the variables for images float32 [B, H, W, C]."""
        ...

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
        """The logits, float32 [B, K], of images [B, H, W, C] in [0, 1].

        Args:
          variables: as `init` draws them.
          images: float32.
          train: whether dropout draws, from the key rngs["dropout"].
          batch_statistics: whether batch norm takes the batch's; as `train` says if it is None.
          rngs: keys by name.
          mutable: ["batch_stats"] where the moved statistics are wanted.

        Returns:
          The logits; with `mutable` a pair of them and {"batch_stats": ...}, {} without batch norm.
        """
        ...


def dropout_key(rngs: Mapping[str, jax.Array] | None) -> jax.Array:
    """The key that dropout draws from; one of no use where none is given."""
    return rngs["dropout"] if rngs and "dropout" in rngs else jax.random.key(0)


def with_statistics(params: Any, statistics: Any) -> dict[str, Any]:
    """Variables, with an entry for statistics where there are some."""
    return {"params": params, **({"batch_stats": statistics} if statistics else {})}


def as_floats(array: jax.Array) -> jax.Array:
    """A counter or a truth value among statistics, which are averaged over devices, as a number."""
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(jnp.float32)


def as_dtype(array: jax.Array, dtype: Any) -> jax.Array:
    """What `as_floats` has made a number of, as it was."""
    if dtype == jnp.bool_:
        return array > 0.5
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.round(array).astype(dtype)
    return array.astype(dtype)
