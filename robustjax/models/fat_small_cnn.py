"""The 8-layer CIFAR network of FAT (Zhang et al., 2020), figures 4 to 6 and appendix G."""

import flax.linen as nn
import jax

from robustjax.models.layers import Layers, flatten, max_pool, uses_batch_statistics


class FatSmallCNN(nn.Module):
    """Three pairs of padded 3×3 convolutions of 64, 128 and 196 channels, pools, 256, a head.

    Each convolution has a bias and is followed by batch norm and the activation.

    Attributes:
        num_classes: number of logits.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('fat_small_cnn')):,}"
        '1,639,282'

    Source: the small CNN of the code of FAT (Zhang et al., 2020).
    """

    num_classes: int = 10
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1], 8×8 or more, to float32 logits [B, num_classes]."""
        batch_statistics = uses_batch_statistics(train, batch_statistics)
        layers = self.layers
        x = layers.normalize(images, minimum_size=8)
        for block, features in enumerate((64, 128, 196), start=1):
            for index in (1, 2):
                x = layers.conv(x, features, 3, bias=True, name=f"block{block}_conv{index}")
                x = layers.batch_norm(
                    x, batch_statistics=batch_statistics, name=f"batchnorm{block}_{index}"
                )
                x = layers.activate(x)
            x = max_pool(x)
        x = layers.activate(layers.dense(flatten(x), 256, name="fc1"))
        return layers.logits(x, self.num_classes, name="fc2")
