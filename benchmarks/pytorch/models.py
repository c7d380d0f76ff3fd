"""The networks in PyTorch, layers named as in the Flax ones, so that weights carry over by name."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.pytorch.small_cnn import SmallCNN
from robustjax.errors import UserError


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm after each, and a projection where the shape changes."""

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, features, 3, stride)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = _conv(features, features, 3)
        self.bn2 = nn.BatchNorm2d(features)
        self.projects = stride != 1 or inputs != features
        if self.projects:
            self.shortcut_0 = _conv(inputs, features, 1, stride)
            self.shortcut_1 = nn.BatchNorm2d(features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H / stride, W / stride]."""
        hidden = functional.relu(self.bn1(self.conv1(x)))
        hidden = self.bn2(self.conv2(hidden))
        shortcut = self.shortcut_1(self.shortcut_0(x)) if self.projects else x
        return functional.relu(hidden + shortcut)


class PaddingBlock(nn.Module):
    """As BasicBlock, with a shortcut of subsampled pixels and zero channels in place of weights."""

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, features, 3, stride)
        self.bn1 = nn.BatchNorm2d(features)
        self.conv2 = _conv(features, features, 3)
        self.bn2 = nn.BatchNorm2d(features)
        self.stride = stride
        before = (features - inputs) // 2
        self.channels = (before, features - inputs - before)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H / stride, W / stride]."""
        hidden = functional.relu(self.bn1(self.conv1(x)))
        hidden = self.bn2(self.conv2(hidden))
        if any(self.channels):
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, *self.channels))
        return functional.relu(hidden + x)


class WideBlock(nn.Module):
    """Pre-activation block of a wide residual network."""

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, features, 3, stride)
        self.bn2 = nn.BatchNorm2d(features)
        self.conv2 = _conv(features, features, 3)
        self.projects = inputs != features
        if self.projects:
            self.convShortcut = _conv(inputs, features, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, features, H / stride, W / stride]."""
        activated = functional.relu(self.bn1(x))
        shortcut = self.convShortcut(activated) if self.projects else x
        hidden = functional.relu(self.bn2(self.conv1(activated)))
        return shortcut + self.conv2(hidden)


class _Groups(nn.Module):
    """Groups of blocks, each group after the first with stride 2, each block under its own name."""

    def _add_groups(
        self, block: Any, inputs: int, features: Sequence[int], counts: Sequence[int], names: str
    ) -> None:
        self._order = []
        for group, (channels, count) in enumerate(zip(features, counts, strict=True)):
            for index in range(count):
                stride = 2 if group > 0 and index == 0 else 1
                name = names.format(group=group + 1, index=index)
                self.add_module(name, block(inputs, channels, stride))
                self._order.append(name)
                inputs = channels

    def _through_groups(self, x: torch.Tensor) -> torch.Tensor:
        for name in self._order:
            x = getattr(self, name)(x)
        return x


class ResNet(_Groups):
    """A post-activation residual network: ResNet-8, 18 or 34, or a narrow CIFAR ResNet."""

    def __init__(
        self, block: Any, features: Sequence[int], counts: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.conv1 = _conv(3, features[0], 3)
        self.bn1 = nn.BatchNorm2d(features[0])
        self._add_groups(block, features[0], features, counts, "layer{group}_{index}")
        self.linear = nn.Linear(features[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, 3, H, W] to float32 logits [B, num_classes]."""
        x = functional.relu(self.bn1(self.conv1(images)))
        return _logits(self.linear, self._through_groups(x))


class WideResNet(_Groups):
    """WRN-depth-width."""

    def __init__(self, depth: int, width: int, num_classes: int) -> None:
        super().__init__()
        features = [16 * 2**group * width for group in range(3)]
        self.conv1 = _conv(3, 16, 3)
        counts = [(depth - 4) // 6] * 3
        self._add_groups(WideBlock, 16, features, counts, "block{group}_layer_{index}")
        self.bn1 = nn.BatchNorm2d(features[-1])
        self.fc = nn.Linear(features[-1], num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, 3, H, W] to float32 logits [B, num_classes]."""
        x = self._through_groups(self.conv1(images))
        return _logits(self.fc, functional.relu(self.bn1(x)))


RESNET_COUNTS = {8: (1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


def create(name: str, num_classes: int = 10) -> nn.Module:
    """The PyTorch counterpart of `robustjax.models.create(name)`, with weights of its own.

    Raises:
      ValueError: a network without a counterpart.
    """
    if name == "small_cnn":
        return SmallCNN(num_classes)
    if found := re.fullmatch(r"wide_resnet_(\d+)_(\d+)", name):
        depth, width = map(int, found.groups())
        return WideResNet(depth, width, num_classes)
    if found := re.fullmatch(r"cifar_resnet_(\d+)", name):
        blocks = (int(found.group(1)) - 2) // 6
        return ResNet(PaddingBlock, (16, 32, 64), (blocks,) * 3, num_classes)
    found = re.fullmatch(r"resnet_(\d+)", name)
    if found and int(found.group(1)) in RESNET_COUNTS:
        counts = RESNET_COUNTS[int(found.group(1))]
        features = [64 * 2**group for group in range(len(counts))]
        return ResNet(BasicBlock, features, counts, num_classes)
    raise UserError(
        f"{name} has no counterpart in PyTorch here; there are small_cnn (28×28×1), "
        "wide_resnet_D_W, cifar_resnet_D and "
        + ", ".join(f"resnet_{depth}" for depth in RESNET_COUNTS)
    )


def _conv(inputs: int, features: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, features, kernel, stride, padding=kernel // 2, bias=False)


def _logits(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Average pool and last layer, in the weights' precision under autocast too."""
    pooled = x.to(layer.weight.dtype).mean((2, 3))
    with torch.autocast(x.device.type, enabled=False):
        return layer(pooled)
