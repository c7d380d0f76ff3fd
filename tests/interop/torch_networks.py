"""The networks of other projects, written in PyTorch with the names that their state dicts have.

Written from the papers and from the names and shapes in published state dicts; the forward pass of
each is what the paper describes. `python tests/interop/torch_networks.py` writes golden.npz: the
names and shapes of each network's state dict, and the logits that it gives with the arrays that
`golden_arrays.py` draws for these names.
"""

import importlib.util
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


def conv3(inputs, outputs, stride=1, padding=1):
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=padding, bias=False)


def conv1(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class WideUnit(nn.Module):
    """TRADES: the shortcut of a wider block sees the activated input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3(inputs, outputs, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv3(outputs, outputs)
        self.convShortcut = conv1(inputs, outputs, stride) if inputs != outputs else None

    def forward(self, x):
        active = functional.relu(self.bn1(x))
        hidden = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return hidden + (x if self.convShortcut is None else self.convShortcut(active))


class WideGroup(nn.Module):
    def __init__(self, count, inputs, outputs, stride):
        super().__init__()
        self.layer = nn.Sequential(
            WideUnit(inputs, outputs, stride),
            *(WideUnit(outputs, outputs, 1) for _ in range(count - 1)),
        )

    def forward(self, x):
        return self.layer(x)


class WideNet(nn.Module):
    def __init__(self, depth, width, sub_block1=False):
        super().__init__()
        count, sizes = (depth - 4) // 6, (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = conv3(3, 16)
        self.block1 = WideGroup(count, sizes[0], sizes[1], 1)
        if sub_block1:
            self.sub_block1 = WideGroup(count, sizes[0], sizes[1], 1)
        self.block2 = WideGroup(count, sizes[1], sizes[2], 2)
        self.block3 = WideGroup(count, sizes[2], sizes[3], 2)
        self.bn1, self.fc = nn.BatchNorm2d(sizes[3]), nn.Linear(sizes[3], 10)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(functional.relu(self.bn1(x)).mean((2, 3)))


class DeepMindUnit(nn.Module):
    """Gowal et al.: as above, with no zeros above and to the left where the stride is 2."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride = stride
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.conv_0 = conv3(inputs, outputs, stride, padding=0)
        self.batchnorm_1, self.conv_1 = nn.BatchNorm2d(outputs), conv3(outputs, outputs)
        if inputs != outputs:
            self.shortcut = conv1(inputs, outputs, stride)

    def forward(self, x):
        active = functional.silu(self.batchnorm_0(x))
        before = 1 if self.stride == 1 else 0
        hidden = self.conv_0(functional.pad(active, (before, 1, before, 1)))
        hidden = self.conv_1(functional.silu(self.batchnorm_1(hidden)))
        return hidden + (self.shortcut(active) if hasattr(self, "shortcut") else x)


class DeepMindGroup(nn.Module):
    def __init__(self, count, inputs, outputs, stride):
        super().__init__()
        units = [DeepMindUnit(inputs, outputs, stride)]
        units += [DeepMindUnit(outputs, outputs, 1) for _ in range(count - 1)]
        self.block = nn.Sequential(*units)

    def forward(self, x):
        return self.block(x)


class DeepMindNet(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        count, sizes = (depth - 4) // 6, (16, 16 * width, 32 * width, 64 * width)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        self.init_conv = conv3(3, 16)
        self.layer = nn.Sequential(
            DeepMindGroup(count, sizes[0], sizes[1], 1),
            DeepMindGroup(count, sizes[1], sizes[2], 2),
            DeepMindGroup(count, sizes[2], sizes[3], 2),
        )
        self.batchnorm, self.logits = nn.BatchNorm2d(sizes[3]), nn.Linear(sizes[3], 10)

    def forward(self, x):
        x = self.layer(self.init_conv((x - self.mean) / self.std))
        return self.logits(functional.silu(self.batchnorm(x)).mean((2, 3)))


class Basic(nn.Module):
    widening = 1

    def __init__(self, inputs, size, stride):
        super().__init__()
        self.conv1, self.bn1 = conv3(inputs, size, stride), nn.BatchNorm2d(size)
        self.conv2, self.bn2 = conv3(size, size), nn.BatchNorm2d(size)
        self.shortcut = projection(inputs, size, stride)

    def forward(self, x):
        hidden = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(hidden + self.shortcut(x))


class Bottle(nn.Module):
    widening = 4

    def __init__(self, inputs, size, stride):
        super().__init__()
        self.conv1, self.bn1 = conv1(inputs, size), nn.BatchNorm2d(size)
        self.conv2, self.bn2 = conv3(size, size, stride), nn.BatchNorm2d(size)
        self.conv3, self.bn3 = conv1(size, 4 * size), nn.BatchNorm2d(4 * size)
        self.shortcut = projection(inputs, 4 * size, stride)

    def forward(self, x):
        hidden = functional.relu(self.bn1(self.conv1(x)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        return functional.relu(self.bn3(self.conv3(hidden)) + self.shortcut(x))


def projection(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(conv1(inputs, outputs, stride), nn.BatchNorm2d(outputs))


class PreActivation(nn.Module):
    widening = 1

    def __init__(self, inputs, size, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3(inputs, size, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(size), conv3(size, size)
        if stride != 1 or inputs != size:
            self.shortcut = nn.Sequential(conv1(inputs, size, stride))

    def forward(self, x):
        active = functional.relu(self.bn1(x))
        hidden = self.conv2(functional.relu(self.bn2(self.conv1(active))))
        return hidden + (self.shortcut(active) if hasattr(self, "shortcut") else x)


class ResidualNet(nn.Module):
    def __init__(self, unit, counts):
        super().__init__()
        self.conv1 = conv3(3, 64)
        if unit is not PreActivation:
            self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for group, count in enumerate(counts):
            size, units = 64 * 2**group, []
            for index in range(count):
                units.append(unit(inputs, size, 2 if group and not index else 1))
                inputs = size * unit.widening
            setattr(self, f"layer{group + 1}", nn.Sequential(*units))
        if unit is PreActivation:
            self.bn = nn.BatchNorm2d(inputs)
        self.linear = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.conv1(x)
        if hasattr(self, "bn1"):
            x = functional.relu(self.bn1(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        if hasattr(self, "bn"):
            x = functional.relu(self.bn(x))
        return self.linear(x.mean((2, 3)))


class MnistNet(nn.Module):
    """TRADES's network for MNIST."""

    def __init__(self):
        super().__init__()
        sizes = ((1, 32), (32, 32), (32, 64), (64, 64))
        layers = OrderedDict()
        for index, (inputs, outputs) in enumerate(sizes, 1):
            layers[f"conv{index}"] = nn.Conv2d(inputs, outputs, 3)
            layers[f"relu{index}"] = nn.ReLU()
            if index % 2 == 0:
                layers[f"maxpool{index // 2}"] = nn.MaxPool2d(2)
        self.feature_extractor = nn.Sequential(layers)
        head = OrderedDict(fc1=nn.Linear(1024, 200), relu1=nn.ReLU(), drop=nn.Dropout(0.5))
        head |= OrderedDict(fc2=nn.Linear(200, 200), relu2=nn.ReLU(), fc3=nn.Linear(200, 10))
        self.classifier = nn.Sequential(head)

    def forward(self, x):
        return self.classifier(self.feature_extractor(x).flatten(1))


class FriendlyNet(nn.Module):
    """FAT's 8-layer network."""

    def __init__(self):
        super().__init__()
        inputs = 3
        for block, size in enumerate((64, 128, 196), 1):
            for index in (1, 2):
                setattr(self, f"block{block}_conv{index}", nn.Conv2d(inputs, size, 3, padding=1))
                setattr(self, f"batchnorm{block}_{index}", nn.BatchNorm2d(size))
                inputs = size
        self.fc1, self.fc2 = nn.Linear(196 * 16, 256), nn.Linear(256, 10)

    def forward(self, x):
        for block in (1, 2, 3):
            for index in (1, 2):
                x = getattr(self, f"block{block}_conv{index}")(x)
                x = functional.relu(getattr(self, f"batchnorm{block}_{index}")(x))
            x = functional.max_pool2d(x, 2)
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


class TutorialNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 120), nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        for layer in (self.conv1, self.conv2):
            x = functional.max_pool2d(functional.relu(layer(x)), 2)
        x = functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1)))))
        return self.fc3(x)


MAKERS = {
    "wide_resnet_trades": lambda: WideNet(10, 2, sub_block1=True),
    "wide_resnet_robustbench": lambda: WideNet(16, 1),
    "wide_resnet_deepmind": lambda: DeepMindNet(16, 1),
    "resnet_18": lambda: ResidualNet(Basic, (2, 2, 2, 2)),
    "resnet_34": lambda: ResidualNet(Basic, (3, 4, 6, 3)),
    "resnet_50": lambda: ResidualNet(Bottle, (3, 4, 6, 3)),
    "preact_resnet_18": lambda: ResidualNet(PreActivation, (2, 2, 2, 2)),
    "small_cnn": MnistNet,
    "fat_small_cnn": FriendlyNet,
    "tutorial_cnn": TutorialNet,
}
"""By the names of the cases in golden_arrays.py."""


def logits_of(network, state_dict, images):
    """What a network gives for images [B, H, W, C] with the arrays of a state dict."""
    tensors = {name: torch.from_numpy(array) for name, array in state_dict.items()}
    network.load_state_dict(tensors, strict=True)
    network.eval()
    with torch.no_grad():
        return network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()


def _write_golden():
    folder = Path(__file__).parent
    spec = importlib.util.spec_from_file_location("golden_arrays", folder / "golden_arrays.py")
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    found = {}
    for name, case in golden.CASES.items():
        network = MAKERS[name]()
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        arrays = golden.draw(shapes)
        found[name] = shapes, logits_of(network, arrays, golden.images(case))
    golden.write(found)


if __name__ == "__main__":
    _write_golden()
