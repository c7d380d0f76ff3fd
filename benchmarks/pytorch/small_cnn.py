"""TRADES' network for MNIST in PyTorch, layers named as in the Flax one."""

import torch
from torch import nn
from torch.nn import functional


class SmallCNN(nn.Module):
    """Convolutions of 32, 32, 64 and 64 channels without padding, two pools, three dense layers."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        channels = (1, 32, 32, 64, 64)
        for index in range(1, 5):
            self.add_module(f"conv{index}", nn.Conv2d(channels[index - 1], channels[index], 3))
        self.fc1 = nn.Linear(64 * 4 * 4, 200)
        self.fc2 = nn.Linear(200, 200)
        self.fc3 = nn.Linear(200, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, 1, 28, 28] to logits [B, num_classes], without dropout."""
        x = functional.relu(self.conv2(functional.relu(self.conv1(images))))
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        x = functional.max_pool2d(x, 2)
        # Flax flattens with the channel running fastest.
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))
