"""The layers that every network is built from, and the options that every network takes."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from robustjax.arguments import kind, refusal, require_choice, shown
from robustjax.errors import UserError
from robustjax.models.convolution import conv_general_dilated
from robustjax.models.initialization import torch_uniform, torch_uniform_bias

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.1),
    "silu": nn.silu,
}
NORMALIZATIONS = ("none", "per_image")
STRIDE_PADDINGS = ("torch", "same")
CONVOLUTIONS: dict[str, Callable[..., jax.Array]] = {
    "auto": conv_general_dilated,
    "xla": jax.lax.conv_general_dilated,
}


@dataclasses.dataclass(frozen=True)
class Layers:
    """The options that all networks share, and the layers that obey them.

    The methods that take a `name` make a Flax layer: call them inside a `nn.compact` method. The
    layer belongs to the module whose method that is.

    Parameters, batch-norm statistics, the normalisation itself and the logits are float32 whatever
    `dtype` says. Batch norm keeps 0.9·old + 0.1·batch with ε = 1e-5, as PyTorch's 0.1 and 1e-5 do;
    but where PyTorch stores the unbiased variance of the batch (n − 1), Flax stores the biased one
    (n).

    Attributes:
        activation: "relu", "leaky_relu" (slope 0.1) or "silu".
        dtype: jnp.float32 or jnp.bfloat16, in which convolutions and hidden dense layers compute.
        axis_name: mapped axis over which batch statistics are averaged and dropout counts
            positions; None keeps both on the device.
        mean: per-channel mean subtracted from the images inside the network, or None.
        std: per-channel standard deviation that divides them then, or None.
        normalization: "none", or "per_image" for images standardised one by one.
        convolution: "auto", on a CPU another algorithm than XLA's where that is faster, the same up
            to rounding, without forward-mode differentiation (`robustjax.models.convolution`); or
            "xla".
        stride_padding: where convolutions with a stride put their zeros: "torch", kernel // 2 on
            every side; or "same", as TensorFlow's and JAX's "SAME" does: a 3×3 kernel of stride 2
            finds none above and to the left of an even image, one below and to the right.

    Raises:
        ValueError: a value that is not one of those above.
    """

    activation: str = "relu"
    dtype: Any = jnp.float32
    axis_name: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    normalization: str = "none"
    convolution: str = "auto"
    stride_padding: str = "torch"

    def __post_init__(self) -> None:
        require_choice("activation", self.activation, tuple(ACTIVATIONS))
        require_choice("normalization", self.normalization, tuple(NORMALIZATIONS))
        require_choice("convolution", self.convolution, tuple(CONVOLUTIONS))
        require_choice("stride_padding", self.stride_padding, STRIDE_PADDINGS)
        if self.dtype not in (jnp.float32, jnp.bfloat16):
            raise refusal("dtype", shown(self.dtype), "jnp.float32 and jnp.bfloat16")
        if (self.mean is None) != (self.std is None):
            raise UserError(f"mean={self.mean}, std={self.std}: accepted are both, or neither")
        if self.mean is None or self.std is None:
            return
        if self.normalization != "none":
            raise UserError(
                f"normalization={self.normalization!r}, mean={self.mean}, std={self.std}: accepted "
                "is one of the two"
            )
        # Tuples, so that a network stays hashable whatever sequence the caller gave.
        mean, std = _per_channel("mean", self.mean), _per_channel("std", self.std)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        if len(mean) != len(std) or min(std, default=0.0) <= 0.0:
            raise UserError(
                f"mean={self.mean}, std={self.std}: accepted are one number per channel in each, "
                "and positive deviations"
            )

    def normalize(self, images: jax.Array, *, minimum_size: int = 1) -> jax.Array:
        """Checks the images and normalises them in float32, each channel or each image.

        "per_image" divides by max(deviation, 1/√pixels), the deviation over height, width and
        channels and the floor in units of 1/255, since the networks that standardise this way
        count pixels from 0 to 255 (Madry et al., 2018).

        Args:
            images: float [B, H, W, C] in [0, 1].
            minimum_size: least height and width that the network can take.

        Returns:
            float32 [B, H, W, C].

        Raises:
            ValueError: images of another rank, of an integer type, or too small; channels that do
                not match `mean`.
        """
        if images.ndim != 4:
            raise refusal("images", kind(images), "[B, H, W, C]")
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise refusal("images", kind(images), "floating point in [0, 1]")
        if min(images.shape[1:3]) < minimum_size:
            accepted = f"a height and a width of at least {minimum_size} for this network"
            raise refusal("images", kind(images), accepted)
        images = images.astype(jnp.float32)
        if self.normalization == "per_image":
            mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
            variance = jnp.var(images, axis=(1, 2, 3), keepdims=True)
            floor = 1 / (255.0**2 * math.prod(images.shape[1:]))
            # The floor is inside the root: a constant image would otherwise have a NaN gradient.
            return (images - mean) / jnp.sqrt(jnp.maximum(variance, floor))
        if self.mean is None:
            return images
        if len(self.mean) != images.shape[-1]:
            raise refusal("mean", str(self.mean), f"one for each channel of {kind(images)}")
        return (images - jnp.array(self.mean)) / jnp.array(self.std)

    def conv(
        self,
        inputs: jax.Array,
        features: int,
        kernel: int,
        *,
        name: str,
        stride: int = 1,
        padding: int | str | None = None,
        bias: bool = False,
        kernel_init: nn.initializers.Initializer = torch_uniform,
        bias_init: nn.initializers.Initializer | None = None,
    ) -> jax.Array:
        """Convolves [B, H, W, C] with square kernels.

        Args:
            inputs: [B, H, W, C].
            features: output channels.
            kernel: side of the kernel.
            name: name of the layer in the variables.
            stride: step in both directions.
            padding: zeros on every side; default kernel // 2, or with a stride what
                `stride_padding` says.
            bias: whether a bias is added.
            kernel_init: default PyTorch's.
            bias_init: default PyTorch's.

        Returns:
            [B, H', W', features] in `dtype`.
        """
        if padding is None:
            same = stride > 1 and self.stride_padding == "same"
            padding = "SAME" if same else kernel // 2
        return nn.Conv(
            features,
            (kernel, kernel),
            strides=stride,
            padding=padding,
            use_bias=bias,
            dtype=self.dtype,
            conv_general_dilated=CONVOLUTIONS[self.convolution],
            kernel_init=kernel_init,
            bias_init=bias_init or torch_uniform_bias(kernel**2 * inputs.shape[-1]),
            name=name,
        )(inputs)

    def batch_norm(
        self, inputs: jax.Array, *, batch_statistics: bool, name: str, epsilon: float = 1e-5
    ) -> jax.Array:
        """Normalises each channel of [B, H, W, C] by the batch's statistics or the running ones.

        Args:
            inputs: [B, H, W, C].
            batch_statistics: True normalises with this batch and moves the running statistics,
                which asks for `mutable=["batch_stats"]`.
            name: name of the layer in the variables.
            epsilon: added to the variance.

        Returns:
            [B, H, W, C] in `dtype`, computed in float32.
        """
        return nn.BatchNorm(
            use_running_average=not batch_statistics,
            momentum=0.9,
            epsilon=epsilon,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name=name,
        )(inputs)

    def activate(self, inputs: jax.Array) -> jax.Array:
        """Applies the activation to every element."""
        return ACTIVATIONS[self.activation](inputs)

    def dense(
        self,
        inputs: jax.Array,
        features: int,
        *,
        name: str,
        kernel_init: nn.initializers.Initializer = torch_uniform,
        bias_init: nn.initializers.Initializer | None = None,
    ) -> jax.Array:
        """Maps [B, D] to [B, features] in `dtype`; initialised as PyTorch does unless told."""
        return _dense(inputs, features, self.dtype, kernel_init, bias_init, name)

    def logits(
        self,
        inputs: jax.Array,
        num_classes: int,
        *,
        name: str,
        kernel_init: nn.initializers.Initializer = torch_uniform,
        bias_init: nn.initializers.Initializer | None = None,
    ) -> jax.Array:
        """Maps [B, D] to [B, num_classes] in float32, since losses are read from the result."""
        return _dense(inputs, num_classes, jnp.float32, kernel_init, bias_init, name)


def max_pool(inputs: jax.Array) -> jax.Array:
    """Takes the largest of each 2×2 square of [B, H, W, C]; an odd last row or column is left.

    The gradient goes to the first of equal entries, row by row, as in PyTorch. Written with
    comparisons because the gradient of XLA's own pooling is slow on CPU: in the MNIST network of
    TRADES it took most of the time.
    """
    height, width = (size - size % 2 for size in inputs.shape[1:3])
    inputs = inputs[:, :height, :width]
    rows = first_largest(inputs[:, :, 0::2], inputs[:, :, 1::2])
    return first_largest(rows[:, 0::2], rows[:, 1::2])


def first_largest(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger of two entries; of equal ones the first has the gradient; NaN wins."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


def global_average_pool(inputs: jax.Array) -> jax.Array:
    """Averages [B, H, W, C] over height and width, in float32."""
    return jnp.mean(inputs.astype(jnp.float32), axis=(1, 2))


def flatten(inputs: jax.Array) -> jax.Array:
    """Reshapes [B, H, W, C] to [B, H·W·C], the channel running fastest."""
    return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


def uses_batch_statistics(train: bool, batch_statistics: bool | None) -> bool:
    """Returns which statistics a call asks for: those of the batch where it trains, unless told."""
    return train if batch_statistics is None else batch_statistics


def _dense(
    inputs: jax.Array,
    features: int,
    dtype: Any,
    kernel_init: nn.initializers.Initializer,
    bias_init: nn.initializers.Initializer | None,
    name: str,
) -> jax.Array:
    return nn.Dense(
        features,
        dtype=dtype,
        kernel_init=kernel_init,
        bias_init=bias_init or torch_uniform_bias(inputs.shape[-1]),
        name=name,
    )(inputs)


def _per_channel(option: str, values: Any) -> tuple[float, ...]:
    accepted = "one finite number per channel, as (0.5, 0.5, 0.5)"
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        raise refusal(option, shown(values), accepted) from None
    if isinstance(values, str) or not all(map(math.isfinite, numbers)):
        raise refusal(option, shown(values), accepted)
    return numbers
