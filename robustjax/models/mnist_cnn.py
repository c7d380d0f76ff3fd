"""The MNIST networks of two 5×5 convolutions: Madry et al.'s, and SENSE's scale of capacities."""

from typing import Any

import flax.linen as nn
import jax

from robustjax.models.layers import Layers, flatten, max_pool


class SenseMnistCNN(nn.Module):
    """SENSE's network of capacity d: 2^(d−1) and 2^d filters, and a layer of 2^(d+4) units.

    Each convolution is 5×5 and followed by the activation and a 2×2 max-pool (Kim & Wang, 2022,
    §5.2.1). The paper does not say how it pads; here a convolution keeps the size of its image, as
    in Madry et al. (2018), whose MNIST network then is capacity 6. Initialised as PyTorch does.

    Attributes:
        capacity: d, at least 1.
        num_classes: number of logits.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> names = "sense_mnist_cnn_1", "sense_mnist_cnn_6"
        >>> [models.parameter_count(models.create(name), (28, 28, 1)) for name in names]
        [3576, 3274634]

    Source: SENSE (Kim & Wang, 2022), §5.2.1.
    """

    capacity: int
    num_classes: int = 10
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1], 4×4 or more, to float32 logits [B, num_classes]."""
        layers = self.layers
        x = layers.normalize(images, minimum_size=4)
        for index in (1, 2):
            features = 2 ** (self.capacity - 2 + index)
            x = layers.conv(x, features, 5, bias=True, name=f"conv{index}")
            x = max_pool(layers.activate(x))
        x = layers.dense(flatten(x), 2 ** (self.capacity + 4), name="fc1")
        return layers.logits(layers.activate(x), self.num_classes, name="fc2")


class MadryMnistCNN(nn.Module):
    """Two padded 5×5 convolutions of 32 and 64 filters with max-pools, 1024 units, a head.

    Kernels start from a normal of deviation 0.1 cut at two deviations, biases from 0.1 (Madry et
    al., 2018).

    Attributes:
        num_classes: number of logits.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> f"{models.parameter_count(models.create('madry_mnist_cnn'), (28, 28, 1)):,}"
        '3,274,634'

    Source: Madry et al. (2018), section 5, and the code of their MNIST challenge.
    """

    num_classes: int = 10
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1], 4×4 or more, to float32 logits [B, num_classes]."""
        layers = self.layers
        start: dict[str, Any] = {
            "kernel_init": nn.initializers.truncated_normal(0.1),
            "bias_init": nn.initializers.constant(0.1),
        }
        x = layers.normalize(images, minimum_size=4)
        for index, features in enumerate((32, 64), start=1):
            x = layers.conv(x, features, 5, bias=True, name=f"conv{index}", **start)
            x = max_pool(layers.activate(x))
        x = layers.activate(layers.dense(flatten(x), 1024, name="fc1", **start))
        return layers.logits(x, self.num_classes, name="fc2", **start)
