"""A network for 8×8 digits, small enough to be trained adversarially on a CPU in seconds."""

import flax.linen as nn
import jax

from robustjax.models.initialization import fan_in_normal
from robustjax.models.layers import Layers, flatten


class DigitsCNN(nn.Module):
    """Three padded 3×3 convolutions of 16, 32 and 32 channels, strides 1, 2 and 2, and a head.

    It has no batch norm, so that an example's logits depend on nothing else in its batch, training
    included.

    Attributes:
        num_classes: number of logits.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('digits_cnn'), (8, 8, 1)):,}"
        '15,338'

    Source: of this library, no paper.
    """

    num_classes: int = 10
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1] to float32 logits [B, num_classes]."""
        layers = self.layers
        x = layers.normalize(images)
        for index, (features, stride) in enumerate(((16, 1), (32, 2), (32, 2)), start=1):
            x = layers.conv(
                x,
                features,
                3,
                stride=stride,
                bias=True,
                kernel_init=fan_in_normal,
                bias_init=nn.initializers.zeros_init(),
                name=f"conv{index}",
            )
            x = layers.activate(x)
        return layers.logits(flatten(x), self.num_classes, name="fc")
