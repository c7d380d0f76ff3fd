"""Post-activation residual networks for small images (He et al., 2016, adapted to 32×32)."""

import flax.linen as nn
import jax

from robustjax.arguments import refusal, require_choice, shown
from robustjax.models.blocks import apply_block
from robustjax.models.layers import Layers, global_average_pool, uses_batch_statistics
from robustjax.models.stems import STEMS, apply_stem


class BasicBlock(nn.Module):
    """act(shortcut(x) + norm(conv(act(norm(conv(x)))))), with two 3×3 convolutions.

    The shortcut is a 1×1 convolution and batch norm where the shape changes, else x itself.
    """

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, batch_statistics: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features]."""
        layers = self.layers
        hidden = layers.conv(x, self.features, 3, stride=self.stride, name="conv1")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn1")
        hidden = layers.activate(hidden)
        hidden = layers.conv(hidden, self.features, 3, name="conv2")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn2")
        shortcut = _projection(x, self.features, self.stride, layers, batch_statistics)
        return layers.activate(shortcut + hidden)


class Bottleneck(nn.Module):
    """As BasicBlock with 1×1, 3×3 and 1×1 convolutions, the last with 4·features channels."""

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, batch_statistics: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, 4·features]."""
        layers = self.layers
        hidden = layers.conv(x, self.features, 1, name="conv1")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn1")
        hidden = layers.activate(hidden)
        hidden = layers.conv(hidden, self.features, 3, stride=self.stride, name="conv2")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn2")
        hidden = layers.activate(hidden)
        hidden = layers.conv(hidden, 4 * self.features, 1, name="conv3")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn3")
        shortcut = _projection(x, 4 * self.features, self.stride, layers, batch_statistics)
        return layers.activate(shortcut + hidden)


BLOCKS = {
    8: (BasicBlock, (1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


class ResNet(nn.Module):
    """ResNet-8, 18, 34 or 50, usually with a 3×3 stem of stride 1 and no max-pool.

    Groups of 64, 128, 256 and 512 channels with strides 1, 2, 2 and 2; ResNet-50 has bottlenecks.
    Layers are named as in the PyTorch checkpoints of TRADES, MART and FAT, dots written as
    underscores ("layer1_0").

    Two of these are readings of LRM (Summers & Dinneen), which leaves its networks open:

    * CIFAR: "an 18-layer ResNet, equivalent to the 'simple' model of Madry et al.". Eighteen layers
      is this ResNet-18; Madry et al.'s simple model has 32 layers and is `madry_simple_resnet`.
    * SVHN: "a smaller 8-layer ResNet", widths and block not given. ResNet-8 here is ResNet-18 with
      three groups of one block, of 64, 128 and 256 channels. The narrow reading of 16, 32 and 64
      channels is `cifar_resnet_8`.

    Attributes:
        depth: 8, 18, 34 or 50.
        num_classes: number of logits.
        layers: the options shared by all networks.
        remat: whether gradients of training passes compute each block's activations again.
        stem: "cifar", or "imagenet" for large images (`robustjax.models.stems`).

    Raises:
        ValueError: a depth or a stem that is none of those.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('resnet_18')):,}"
        '11,173,962'

    Source: Deep Residual Learning (He et al., 2016), section 3; the 3×3 stem is that of the code of
        TRADES, MART and FAT.
    """

    depth: int
    num_classes: int = 10
    layers: Layers = Layers()
    remat: bool = False
    stem: str = "cifar"

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            accepted = ", ".join(str(depth) for depth in BLOCKS)
            raise refusal("depth", shown(self.depth), accepted)
        require_choice("stem", self.stem, STEMS)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes]."""
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        block, counts = BLOCKS[self.depth]
        x = layers.normalize(images)
        x = apply_stem(x, layers, self.stem, norm=True, batch_statistics=batch_statistics)
        for group, count in enumerate(counts):
            for index in range(count):
                unit = block(
                    64 * 2**group,
                    2 if group > 0 and index == 0 else 1,
                    layers,
                    name=f"layer{group + 1}_{index}",
                )
                x = apply_block(
                    unit, x, remat=self.remat and train, batch_statistics=batch_statistics
                )
        return layers.logits(global_average_pool(x), self.num_classes, name="linear")


def _projection(
    x: jax.Array, features: int, stride: int, layers: Layers, batch_statistics: bool
) -> jax.Array:
    if stride == 1 and x.shape[-1] == features:
        return x
    x = layers.conv(x, features, 1, stride=stride, name="shortcut_0")
    return layers.batch_norm(x, batch_statistics=batch_statistics, name="shortcut_1")
