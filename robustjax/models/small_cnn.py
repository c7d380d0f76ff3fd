"""The MNIST network of TRADES, MART and SENSE: four convolutions and three dense layers."""

import flax.linen as nn
import jax

from robustjax.models.dropout import ExampleDropout, Places
from robustjax.models.initialization import fan_in_normal
from robustjax.models.layers import Layers, flatten, max_pool


class SmallCNN(nn.Module):
    """Convolutions of 32, 32, 64 and 64 channels without padding, pools, 200, 200, a zero head.

    The last layer starts at zero, so the first logits are all zero: attacks on the KL divergence
    (TRADES) find a gradient of exactly 0 in the first batch and stay at their start.

    Attributes:
        num_classes: number of logits.
        dropout: rate after the first dense layer.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('small_cnn'), (28, 28, 1)):,}"
        '312,202'

    Source: the code of TRADES (Zhang et al., 2019), after Carlini & Wagner (2017).
    """

    num_classes: int = 10
    dropout: float = 0.5
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        *,
        train: bool = False,
        batch_statistics: bool | None = None,
        places: Places | None = None,
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1], 16×16 or more, to float32 logits [B, num_classes]."""
        layers = self.layers
        x = layers.normalize(images, minimum_size=16)
        for index, features in enumerate((32, 32, 64, 64), start=1):
            x = layers.conv(
                x,
                features,
                3,
                padding=0,
                bias=True,
                kernel_init=fan_in_normal,
                bias_init=nn.initializers.zeros_init(),
                name=f"conv{index}",
            )
            x = layers.activate(x)
            if index % 2 == 0:
                x = max_pool(x)
        x = layers.activate(layers.dense(flatten(x), 200, name="fc1"))
        x = ExampleDropout(self.dropout, layers.axis_name)(x, train=train, places=places)
        x = layers.activate(layers.dense(x, 200, name="fc2"))
        zeros = nn.initializers.zeros_init()
        return layers.logits(x, self.num_classes, kernel_init=zeros, bias_init=zeros, name="fc3")
