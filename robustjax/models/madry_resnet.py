"""The residual networks of the CIFAR-10 challenge of Madry et al. (2018)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax.arguments import kind, refusal
from robustjax.models.blocks import apply_block
from robustjax.models.initialization import fan_out_normal
from robustjax.models.layers import Layers, global_average_pool, uses_batch_statistics

EPSILON = 1e-3


class MadryUnit(nn.Module):
    """Pre-activation unit whose shortcut has no parameters: 2×2 average pool and zero channels.

    `activated_shortcut`, in the first unit of the network, sends act(norm(x)) down the shortcut in
    place of x.
    """

    features: int
    stride: int
    activated_shortcut: bool
    layers: Layers

    @nn.compact
    def __call__(self, x: jax.Array, *, batch_statistics: bool) -> jax.Array:
        """Maps [B, H, W, C] to [B, H / stride, W / stride, features]."""
        layers = self.layers
        hidden = layers.batch_norm(
            x, batch_statistics=batch_statistics, epsilon=EPSILON, name="init_bn"
        )
        hidden = layers.activate(hidden)
        shortcut = hidden if self.activated_shortcut else x
        hidden = layers.conv(
            hidden,
            self.features,
            3,
            stride=self.stride,
            kernel_init=fan_out_normal,
            name="conv1",
        )
        hidden = layers.batch_norm(
            hidden, batch_statistics=batch_statistics, epsilon=EPSILON, name="bn2"
        )
        hidden = layers.activate(hidden)
        hidden = layers.conv(hidden, self.features, 3, kernel_init=fan_out_normal, name="conv2")
        return _pool_and_pad(shortcut, self.features, self.stride) + hidden


class MadryResNet(nn.Module):
    """Stem to 16 channels, three groups of five units, norm, leaky ReLU, average pool, head.

    As their TensorFlow code has it: leaky ReLU of slope 0.1, images standardised one by one inside
    the network, padding "SAME" (at stride 2 an even image gets its zeros below and to the right),
    and 1e-3 in batch norm. "Wide" (w32-10) has groups of 160, 320 and 640 channels; "simple" has
    16, 32 and 64, and is the model that LRM (Summers & Dinneen) names, though it calls it an
    18-layer ResNet, which this is not (see `ResNet`).

    Attributes:
        widths: channels of the three groups.
        num_classes: number of logits.
        layers: the options shared by all networks.
        remat: whether gradients of training passes compute each block's activations again.

    Example:
        >>> from robustjax import models
        >>> models.create("madry_w32_10").widths, models.create("madry_simple_resnet").widths
        ((160, 320, 640), (16, 32, 64))

    Source: the CIFAR-10 challenge of Madry et al. (2018), its TensorFlow code.
    """

    widths: tuple[int, int, int]
    num_classes: int = 10
    layers: Layers = Layers(
        activation="leaky_relu", normalization="per_image", stride_padding="same"
    )
    remat: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes].

        Raises:
            ValueError: a height or width that is not a multiple of 4.
        """
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        x = layers.normalize(images)
        if images.shape[1] % 4 or images.shape[2] % 4:
            accepted = "a height and a width that are multiples of 4, being halved twice"
            raise refusal("images", kind(images), accepted)
        x = layers.conv(x, 16, 3, kernel_init=fan_out_normal, name="init_conv")
        for group, features in enumerate(self.widths):
            for index in range(5):
                block = MadryUnit(
                    features,
                    2 if group > 0 and index == 0 else 1,
                    group == 0 and index == 0,
                    layers,
                    name=f"unit_{group + 1}_{index}",
                )
                x = apply_block(
                    block, x, remat=self.remat and train, batch_statistics=batch_statistics
                )
        x = layers.batch_norm(
            x, batch_statistics=batch_statistics, epsilon=EPSILON, name="final_bn"
        )
        x = global_average_pool(layers.activate(x))
        return layers.logits(
            x,
            self.num_classes,
            kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),
            bias_init=nn.initializers.zeros_init(),
            name="logit",
        )


def _pool_and_pad(x: jax.Array, features: int, stride: int) -> jax.Array:
    if x.shape[-1] == features:
        return x
    before = (features - x.shape[-1]) // 2
    after = features - x.shape[-1] - before
    if stride > 1:
        x = nn.avg_pool(x, (stride, stride), strides=(stride, stride))
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, after)))
