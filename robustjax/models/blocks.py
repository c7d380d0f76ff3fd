"""How a network applies its residual blocks: plainly, or with less memory for their gradient."""

from typing import Any

import flax.linen as nn
import jax


def apply_block(block: nn.Module, x: jax.Array, *, remat: bool, **modes: Any) -> jax.Array:
    """Applies a residual block, inside the `nn.compact` method of the network that it belongs to.

    Block by block is the place to trade time for memory: where only the blocks' inputs outlive the
    forward pass, what a block computes in between is there for one block at a time, and no tensor
    is computed more than twice. The variables and their names are the same either way.

    Args:
        block: a module made with a name in that method.
        x: [B, H, W, C].
        remat: whether the gradient computes the block's activations again in place of keeping them.
        **modes: what else the block takes.

    Returns:
        [B, H', W', C'].

    Source: Training Deep Nets with Sublinear Memory Cost (Chen et al., 2016).
    """

    def apply(block: nn.Module, x: jax.Array) -> jax.Array:
        return block(x, **modes)

    return nn.remat(apply)(block, x) if remat else apply(block, x)
