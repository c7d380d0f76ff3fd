"""Pre-activation ResNet-18 (He et al., 2016, "Identity mappings"), the network of Rice and AWP."""

import flax.linen as nn
import jax

from robustjax.arguments import require_choice
from robustjax.models.blocks import apply_block
from robustjax.models.layers import Layers, global_average_pool, uses_batch_statistics
from robustjax.models.stems import STEMS, apply_stem


class PreActBlock(nn.Module):
    """shortcut + conv(act(norm(conv(act(norm(x)))))).

    The shortcut is a 1×1 convolution of the activated input where the shape changes, else x itself.
    """

    features: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, batch_statistics: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features]."""
        layers = self.layers
        hidden = layers.batch_norm(x, batch_statistics=batch_statistics, name="bn1")
        hidden = layers.activate(hidden)
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.features:
            shortcut = layers.conv(hidden, self.features, 1, stride=self.stride, name="shortcut_0")
        hidden = layers.conv(hidden, self.features, 3, stride=self.stride, name="conv1")
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn2")
        hidden = layers.conv(layers.activate(hidden), self.features, 3, name="conv2")
        return shortcut + hidden


class PreActResNet18(nn.Module):
    """Stem, without batch norm for small images, two blocks of 64 to 512 channels each, norm, head.

    The batch norm and activation before the average pool are those of Rice et al. (2020) and AWP
    (Wu et al., 2020): 11,172,170 parameters. A variant in circulation leaves them out and has
    11,171,146; its weights do not fit here. Layers are named as in the PyTorch checkpoints, dots
    written as underscores ("layer1_0").

    Attributes:
        num_classes: number of logits.
        layers: the options shared by all networks.
        remat: whether gradients of training passes compute each block's activations again.
        stem: "cifar", or "imagenet" for large images (`robustjax.models.stems`).

    Raises:
        ValueError: a stem that is none of those.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('preact_resnet_18')):,}"
        '11,172,170'

    Source: Identity Mappings (He et al., 2016); Rice et al. (2020) and Wu et al. (2020).
    """

    num_classes: int = 10
    layers: Layers = Layers()
    remat: bool = False
    stem: str = "cifar"

    def __post_init__(self) -> None:
        require_choice("stem", self.stem, STEMS)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes]."""
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        x = layers.normalize(images)
        x = apply_stem(x, layers, self.stem, norm=False, batch_statistics=batch_statistics)
        for group in range(4):
            for index in range(2):
                block = PreActBlock(
                    64 * 2**group,
                    2 if group > 0 and index == 0 else 1,
                    layers,
                    name=f"layer{group + 1}_{index}",
                )
                x = apply_block(
                    block, x, remat=self.remat and train, batch_statistics=batch_statistics
                )
        x = layers.batch_norm(x, batch_statistics=batch_statistics, name="bn")
        x = global_average_pool(layers.activate(x))
        return layers.logits(x, self.num_classes, name="linear")
