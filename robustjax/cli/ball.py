"""The flags that say in which ball a command attacks, and what they make of a run's own."""

from __future__ import annotations

import math

from absl import flags

from robustjax.attacks.threat_model import NORMS, ThreatModel
from robustjax.evaluation.trained import TrainedNetwork
from robustjax.flags import NumberParser, define_choice
from robustjax.training.units import require_inside_box


def define_ball_flags(values: flags.FlagValues) -> None:
    """Defines --norm and --epsilon, as in training if they are not given, and --allow_whole_box.

    Args:
      values: where they are defined.
    """
    norms = f"of the ball: {', '.join(NORMS[:-1])} or {NORMS[-1]}; as in training if not given"
    define_choice("norm", None, NORMS, norms, values)
    flags.DEFINE(
        NumberParser(),
        "epsilon",
        None,
        "radius of the ball; as in training if not given",
        values,
        flags.ArgumentSerializer(),
    )
    define_allow_whole_box(values)


def define_allow_whole_box(values: flags.FlagValues) -> None:
    """The flag that `require_units` goes by."""
    flags.DEFINE_bool(
        "allow_whole_box",
        False,
        "accept an --epsilon or a --step_size that makes any image of any other",
        flag_values=values,
    )


def ball_of(network: TrainedNetwork) -> ThreatModel:
    """The ball that the flags make of a run's own.

    Raises:
      ValueError: the norm is another and there is no radius, or a distance is in other units.
    """
    values = flags.FLAGS
    require_units(network, values.norm or network.config.norm)
    return network.threat(values.epsilon, values.norm or "")


def require_units(network: TrainedNetwork, norm: str) -> None:
    """Refuses a radius, or a step, that makes any image of any other, unless that is meant.

    Args:
      network: whose images it is.
      norm: of the ball.

    Raises:
      ValueError: names the flag, the number, and what was probably meant.
    """
    values = flags.FLAGS
    if values.allow_whole_box:
        return
    pixels = math.prod(network.test_set.images.shape[1:])
    for name in ("epsilon", "step_size"):
        value = values[name].value if name in values else None
        if value is not None:
            require_inside_box(f"--{name}={value:g}", value, norm, pixels)
