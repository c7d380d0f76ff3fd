"""The narrow CIFAR residual networks of He et al. (2016, §4.2), SENSE's scale of capacities."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax.arguments import refusal, shown
from robustjax.models.blocks import apply_block
from robustjax.models.initialization import fan_in_normal
from robustjax.models.layers import Layers, global_average_pool, uses_batch_statistics


class CifarBlock(nn.Module):
    """act(shortcut(x) + norm(conv(act(norm(conv(x)))))), with a shortcut that has no parameters.

    Where the shape changes the shortcut is He et al.'s option A: every second pixel in both
    directions, and zero channels put in equal number before and after.
    """

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, batch_statistics: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features]."""
        layers = self.layers
        hidden = layers.conv(
            x, self.features, 3, stride=self.stride, kernel_init=fan_in_normal, name="conv1"
        )
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn1")
        hidden = layers.activate(hidden)
        hidden = layers.conv(hidden, self.features, 3, kernel_init=fan_in_normal, name="conv2")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn2")
        return layers.activate(subsample_and_pad(x, self.features, self.stride) + hidden)


class CifarResNet(nn.Module):
    """ResNet-depth: a stem, three groups of (depth − 2)/6 blocks of 16, 32 and 64 channels, a head.

    SENSE (Kim & Wang, 2022, §5.3.3) uses depths 20, 32, 44 and 56. Depth 8 is the narrow reading of
    the 8-layer network that LRM trains on SVHN (see `ResNet`).

    Attributes:
        depth: 6n + 2, at least 8.
        num_classes: number of logits.
        layers: the options shared by all networks.
        remat: whether gradients of training passes compute each block's activations again.

    Raises:
        ValueError: a depth that is not 6n + 2.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('cifar_resnet_20')):,}"
        '269,722'

    Source: Deep Residual Learning (He et al., 2016), section 4.2.
    """

    depth: int
    num_classes: int = 10
    layers: Layers = Layers()
    remat: bool = False

    def __post_init__(self) -> None:
        if self.depth < 8 or (self.depth - 2) % 6:
            below = max(8, self.depth - (self.depth - 2) % 6)
            accepted = f"2 plus a positive multiple of 6, as {below} or {below + 6}"
            raise refusal("depth", shown(self.depth), accepted)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes]."""
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        x = layers.normalize(images)
        x = layers.conv(x, 16, 3, kernel_init=fan_in_normal, name="conv1")
        x = layers.batch_norm(x, batch_statistics=batch_statistics, name="bn1")
        x = layers.activate(x)
        for group in range(3):
            for index in range((self.depth - 2) // 6):
                block = CifarBlock(
                    16 * 2**group,
                    2 if group > 0 and index == 0 else 1,
                    layers,
                    name=f"layer{group + 1}_{index}",
                )
                x = apply_block(
                    block, x, remat=self.remat and train, batch_statistics=batch_statistics
                )
        return layers.logits(
            global_average_pool(x), self.num_classes, kernel_init=fan_in_normal, name="linear"
        )


def subsample_and_pad(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Takes every `stride`-th pixel of [B, H, W, C] and pads the channels to `features` with 0."""
    before = (features - x.shape[-1]) // 2
    after = features - x.shape[-1] - before
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (before, after)))
