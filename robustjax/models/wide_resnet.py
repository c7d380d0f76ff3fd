"""Wide residual networks (Zagoruyko & Komodakis, 2016), as adversarial training uses them."""

import flax.linen as nn
import jax

from robustjax.arguments import refusal, shown
from robustjax.models.blocks import apply_block
from robustjax.models.dropout import ExampleDropout, Places
from robustjax.models.initialization import fan_out_normal
from robustjax.models.layers import Layers, global_average_pool, uses_batch_statistics


class WideBlock(nn.Module):
    """Pre-activation block: x + conv(act(norm(conv(act(norm(x)))))).

    Where the number of channels changes, the shortcut is a 1×1 convolution of the *activated*
    input act(norm(x)), not of x.
    """

    features: int
    stride: int
    dropout: float
    layers: Layers

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, batch_statistics: bool, places: Places | None = None
    ) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features]."""
        layers = self.layers
        hidden = layers.batch_norm(x, batch_statistics=batch_statistics, name="bn1")
        hidden = layers.activate(hidden)
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = layers.conv(
                hidden,
                self.features,
                1,
                stride=self.stride,
                kernel_init=fan_out_normal,
                name="convShortcut",
            )
        hidden = layers.conv(
            hidden,
            self.features,
            3,
            stride=self.stride,
            kernel_init=fan_out_normal,
            name="conv1",
        )
        hidden = layers.batch_norm(hidden, batch_statistics=batch_statistics, name="bn2")
        hidden = layers.activate(hidden)
        hidden = ExampleDropout(self.dropout, layers.axis_name)(hidden, train=train, places=places)
        hidden = layers.conv(hidden, self.features, 3, kernel_init=fan_out_normal, name="conv2")
        return shortcut + hidden


class WideResNet(nn.Module):
    """WRN-depth-width: a 3×3 stem to 16 channels, three groups of (depth − 4)/6 blocks, one head.

    The groups have 16·width, 32·width and 64·width channels and strides 1, 2 and 2. The stem has no
    batch norm. Layers are named as in the PyTorch checkpoints of TRADES, MART and RobustBench, dots
    written as underscores ("block1_layer_0"); the extra group "sub_block1" that some of those carry
    without using it is left out here.

    FAT (Zhang et al., 2020) calls this graph with depth 34 and width 10 "WRN-32-10" in its Table 1
    and "WRN-34-10" in its Table 2: their code counts depth differently, and the network is one.

    Attributes:
        depth: 6n + 4, at least 10.
        width: factor on the channels, at least 1.
        num_classes: number of logits.
        dropout: rate between the two convolutions of a block; 0 in all the papers.
        layers: the options shared by all networks.
        remat: whether gradients of training passes compute each block's activations again.

    Raises:
        ValueError: a depth that is not 6n + 4.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('wide_resnet_34_10')):,}"
        '46,160,474'

    Source: Wide Residual Networks (Zagoruyko & Komodakis, 2016), section 2.
    """

    depth: int
    width: int
    num_classes: int = 10
    dropout: float = 0.0
    layers: Layers = Layers()
    remat: bool = False

    def __post_init__(self) -> None:
        if self.depth < 10 or (self.depth - 4) % 6:
            below = max(10, self.depth - (self.depth - 4) % 6)
            accepted = f"4 plus a positive multiple of 6, as {below} or {below + 6}"
            raise refusal("depth", shown(self.depth), accepted)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        batch_statistics: bool | None = None,
        places: Places | None = None,
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes]."""
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        x = layers.normalize(images)
        x = layers.conv(x, 16, 3, kernel_init=fan_out_normal, name="conv1")
        for group, stride in enumerate((1, 2, 2)):
            for index in range((self.depth - 4) // 6):
                block = WideBlock(
                    16 * 2**group * self.width,
                    stride if index == 0 else 1,
                    self.dropout,
                    layers,
                    name=f"block{group + 1}_layer_{index}",
                )
                x = apply_block(
                    block,
                    x,
                    remat=self.remat and train,
                    train=train,
                    batch_statistics=batch_statistics,
                    places=places,
                )
        x = layers.batch_norm(x, batch_statistics=batch_statistics, name="bn1")
        x = global_average_pool(layers.activate(x))
        return layers.logits(x, self.num_classes, bias_init=nn.initializers.zeros_init(), name="fc")
