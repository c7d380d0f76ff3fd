"""How far an attack's steps reach: the one rule for a step that nobody gives, and what falls short.

The rule holds in training, in attacks and in evaluations.
"""

from typing import Any

import numpy as np

_SHORT = 1 - 1e-6
"""Of epsilon: what falls short of it by rounding does not count."""


class ReachWarning(UserWarning):
    """An attack's steps end inside of the ball."""


def default_step_size(epsilon: Any, steps: int) -> Any:
    r"""The size of a step where none is given: :math:`\max(\epsilon / 10, 2 \epsilon / K)`.

    For 20 steps and more that is a tenth of epsilon, as the papers evaluate; fewer steps are
    larger, so that they can cross the ball from any point of it to any other.

    Args:
      epsilon: radius of the ball: a number, or an array of any shape; may be traced.
      steps: K, 0 or more.

    Returns:
      Of epsilon's shape.
    """
    return epsilon / min(10.0, max(steps, 1) / 2)


def reach_complaint(epsilon: Any, steps: int, step_size: Any) -> str:
    """What is wrong with steps that end inside of the ball; "" if nothing is.

    Args:
      epsilon: radius of the ball, a scalar or [B].
      steps: how many there are.
      step_size: a scalar or [B].
    """
    radius, size = np.broadcast_arrays(epsilon, step_size)
    short = np.isfinite(radius) & (steps * size < radius * _SHORT)
    if steps < 1 or not short.any():
        return ""
    first = tuple(axis[0] for axis in np.nonzero(short)) if short.ndim else ()
    taken = "1 step" if steps == 1 else f"{steps} steps"
    return (
        f"{taken} of step_size {size[first]:.6g} reach {steps * size[first]:.6g}, less than "
        f"the radius epsilon, {radius[first]:.6g}: the attack finds less than there is. Where no "
        f"step_size is given, it is {default_step_size(float(radius[first]), steps):.6g} here"
    )
