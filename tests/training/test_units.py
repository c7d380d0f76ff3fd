"""Distances that are probably in units of 255 are refused, by flag and value, wherever given."""

import math

import pytest

from robustjax.config import TrainConfig
from robustjax.training.units import require_inside_box, require_units


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 8.0}, r"^epsilon=8: .* \(linf\) .* did you mean 8/255\? allow_whole_box"),
        ({"epsilon": 1.0}, "^epsilon=1: "),
        ({"step_size": 2.0}, "^step_size=2: "),
        ({"measure_epsilon": 8.0}, "^measure_epsilon=8: "),
        ({"epsilon_schedule": "0..8@10"}, "^epsilon_schedule=0..8@10: "),
        ({"epsilon_schedule": "4"}, "^epsilon_schedule=4: "),
        ({"method": "mma", "set": ("d_max=8",)}, "^d_max=8: "),
        ({"norm": "l2", "epsilon": 28.0}, r"^epsilon=28: .* \(l2\)"),
        ({"norm": "l1", "epsilon": 784.0}, r"^epsilon=784: .* \(l1\)"),
        ({"measure_attack": "pgd-20(step_size=8)"}, r"^measure_attack=pgd-20.* step_size 8: "),
    ],
)
def test_a_ball_that_holds_the_whole_box_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        require_units(TrainConfig(**options), 28 * 28)
    require_units(TrainConfig(**options, allow_whole_box=True), 28 * 28)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"epsilon": 0.999},
        {"norm": "l2", "epsilon": 8.0},
        {"norm": "l2", "epsilon": 27.99},
        {"norm": "l1", "epsilon": 12.0},
        {"epsilon_schedule": "0,0.5@3"},
        {"measure_attack": "pgd-20(step_size=0.8)"},
    ],
)
def test_a_ball_that_does_not_is_accepted(options):
    require_units(TrainConfig(**options), 28 * 28)


def test_until_the_images_are_known_the_l2_ball_is_not_looked_at():
    require_units(TrainConfig(norm="l2", epsilon=1000.0))
    with pytest.raises(ValueError, match="epsilon=8"):
        require_units(TrainConfig(epsilon=8.0))


@pytest.mark.parametrize("pixels", [1, 64, 3072])
def test_the_l2_box_is_as_wide_as_its_diagonal(pixels):
    require_inside_box("--epsilon=x", math.sqrt(pixels) * (1 - 1e-9), "l2", pixels)
    with pytest.raises(ValueError, match="epsilon=x"):
        require_inside_box("--epsilon=x", math.sqrt(pixels), "l2", pixels)
