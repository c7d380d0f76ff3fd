"""Whether the distances of an experiment are in the units of its images, which lie in [0, 1]."""

import math
from collections.abc import Iterator
from typing import Any

from robustjax.arguments import is_number
from robustjax.config import TrainConfig
from robustjax.epoch_schedule import parse_schedule
from robustjax.errors import UserError
from robustjax.training.measure_attack import own_distances

_LENGTHS = ("d_max", "min_epsilon", "growth")
"""Hyper-parameters of methods that are distances between images."""


def require_units(config: TrainConfig, pixels: int | None = None) -> None:
    """Refuses radii and steps that make any image of any other, as those in units of 255 do.

    Args:
      config: the experiment; its option allow_whole_box accepts them all.
      pixels: numbers in an image; None: not known yet, and a ball of l2 or l1 is not looked at.

    Raises:
      ValueError: names the flag, the number, and what was probably meant.
    """
    if config.allow_whole_box:
        return
    for where, value in _distances(config):
        require_inside_box(where, value, config.norm, pixels)


def require_inside_box(where: str, value: float, norm: str, pixels: int | None) -> None:
    """Refuses a distance at which a ball around any image holds all images.

    Args:
      where: what it was given by, for the message, as "epsilon=8".
      value: the distance.
      norm: of the ball.
      pixels: numbers in an image; None: not known.

    Raises:
      ValueError: it is such a distance.
    """
    if norm == "linf":
        widest = 1.0
    elif pixels is None:
        widest = math.inf
    else:
        widest = math.sqrt(pixels) if norm == "l2" else pixels
    if value >= widest:
        raise UserError(
            f"{where}: within a distance of {value:g} ({norm}) any image in [0, 1] becomes any "
            f"other; did you mean {value:g}/255? allow_whole_box=true accepts it"
        )


def _distances(config: TrainConfig) -> Iterator[tuple[str, float]]:
    """What an experiment gives as a distance, and what it is given by."""
    for name in ("epsilon", "measure_epsilon", "step_size"):
        value = getattr(config, name)
        if value is not None:
            yield f"{name}={value:g}", value
    yield from own_distances(config).items()
    given: dict[str, Any] = {"epsilon_schedule": config.epsilon_schedule or None}
    given |= {name: config.hyperparameters().get(name) for name in _LENGTHS}
    for name, value in given.items():
        if is_number(value):
            yield f"{name}={value:g}", value
        elif isinstance(value, str):
            for held in parse_schedule(value).values:
                yield f"{name}={value}", held
