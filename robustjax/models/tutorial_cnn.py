"""The tiny CIFAR networks with which SENSE (Kim & Wang, 2022, §5.3.4) shows model collapse."""

import flax.linen as nn
import jax

from robustjax.models.layers import Layers, flatten, max_pool


class TutorialCNN(nn.Module):
    """The network of PyTorch's CIFAR-10 tutorial: 5×5 convolutions of 6 and 16 filters, 3 layers.

    SENSE's "capacity 2" has hidden layers of 120 and 84 units (the paper writes "capacity 1" of the
    tutorial's network once, evidently a slip, since it is the larger); "capacity 1" has a quarter
    of them, 30 and 21.

    Attributes:
        hidden: units of the two hidden dense layers.
        num_classes: number of logits.
        layers: the options shared by all networks.

    Example:
        >>> from robustjax import models
        >>> names = "tutorial_cnn_small", "tutorial_cnn"
        >>> [models.parameter_count(models.create(name)) for name in names]
        [15773, 62006]

    Source: SENSE (Kim & Wang, 2022), §5.3.4; PyTorch's tutorial "Training a Classifier".
    """

    hidden: tuple[int, int] = (120, 84)
    num_classes: int = 10
    layers: Layers = Layers()

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool = False, batch_statistics: bool | None = None
    ) -> jax.Array:
        """Maps images [B, H, W, C] in [0, 1], 16×16 or more, to float32 logits [B, num_classes]."""
        layers = self.layers
        x = layers.normalize(images, minimum_size=16)
        for index, features in enumerate((6, 16), start=1):
            x = layers.conv(x, features, 5, padding=0, bias=True, name=f"conv{index}")
            x = max_pool(layers.activate(x))
        x = flatten(x)
        for index, features in enumerate(self.hidden, start=1):
            x = layers.activate(layers.dense(x, features, name=f"fc{index}"))
        return layers.logits(x, self.num_classes, name="fc3")
