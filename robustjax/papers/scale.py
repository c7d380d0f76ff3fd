"""A shorter version of an experiment, for a try: fewer epochs and examples, the same schedule."""

import dataclasses
import math
import re
from typing import Any

from robustjax.config import TrainConfig
from robustjax.text import format_value

TRAIN_IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "mnist": 60_000, "svhn": 73_257}
TEST_IMAGES = {"cifar10": 10_000, "cifar100": 10_000, "mnist": 10_000, "svhn": 26_032}
DIGITS_TRAIN, DIGITS_TEST = 1_437, 360
EXTRA_SVHN = 531_131
"""Images of the split that --train_split=train+extra adds."""

FEWEST_EXAMPLES = 10
"""That are attacked, however small the scale is."""

_BATCHES = 4
"""The fewest in an epoch, the hold-out among them."""


def train_images(config: TrainConfig) -> int:
    """How many images an experiment trains on, by the name of its data set."""
    found = TRAIN_IMAGES.get(config.dataset, DIGITS_TRAIN)
    if config.dataset == "svhn" and "extra" in config.train_split:
        found += EXTRA_SVHN
    return min(config.train_examples or found, found)


def test_images(config: TrainConfig) -> int:
    """How many images its test set has, by the name of the data set."""
    return TEST_IMAGES.get(config.dataset, DIGITS_TEST)


def scaled(config: TrainConfig, scale: float) -> TrainConfig:
    """An experiment shortened: every number of epochs times `scale`, one epoch at the least.

    Where that leaves less than one epoch, it is one of fewer images. Network, attack, batch size
    and learning rate stay as they are.

    Args:
      config: the experiment.
      scale: in (0, 1].
    """
    if scale == 1:
        return config
    wanted = config.epochs * scale
    epochs = max(1, round(wanted))
    ratio = epochs / config.epochs
    changes: dict[str, Any] = {"epochs": epochs}
    if wanted < 1:
        fewer = max(math.ceil(train_images(config) * wanted), _BATCHES * config.batch_size)
        if fewer < train_images(config):
            changes["train_examples"] = fewer
    changes["decay_epochs"] = tuple(_times(epoch, ratio) for epoch in config.decay_epochs)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("_epochs") and field.name != "decay_epochs" and value:
            changes[field.name] = _times(value, ratio)
        elif isinstance(value, str) and "@" in value:
            changes[field.name] = _schedule_times(value, ratio)
    changes["set"] = tuple(_assignment_times(text, ratio) for text in config.set)
    return dataclasses.replace(config, **changes)


def scaled_examples(examples: int, config: TrainConfig, scale: float) -> int:
    """How many test images are attacked; 0 stands for all of them, as in the flags."""
    if scale == 1:
        return examples
    available = test_images(config)
    whole = min(examples or available, available)
    return min(max(round(whole * scale), FEWEST_EXAMPLES), whole)


def _times(epochs: float, ratio: float) -> float:
    return round(epochs * ratio, 3)


def _schedule_times(text: str, ratio: float) -> str:
    """A schedule whose epochs, the numbers behind "@", are shorter."""
    return re.sub(r"@([0-9.]+)", lambda found: f"@{_times(float(found[1]), ratio):g}", text)


def _assignment_times(text: str, ratio: float) -> str:
    name, _, value = text.partition("=")
    if name.endswith("_epochs"):
        return f"{name}={format_value(_times(float(value), ratio))}"
    return f"{name}={_schedule_times(value, ratio)}"
