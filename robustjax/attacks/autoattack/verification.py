"""Checks of adversarial images that share nothing with the attacks that made them."""

from __future__ import annotations

import numpy as np

_PIXEL, _LENGTH = 1e-6, 1e-5
"""Rounding of single precision, relative to the largest pixel, and to a length."""

_HALF_UNIT = 2.0**-24
"""What the rounding of one number is at most, relative to it."""


def is_inside(
    adversarial: np.ndarray,
    clean: np.ndarray,
    norm: str,
    epsilon: np.ndarray | float,
    bounds: tuple[float, float] | None,
) -> np.ndarray:
    """Whether images lie in the ball around the clean ones and in the box, in float64.

    Args:
      adversarial: float [N, ...].
      clean: float [N, ...].
      norm: "linf", "l2" or "l1".
      epsilon: radius, a scalar or [N].
      bounds: (low, high), or None: no box.

    Returns:
      bool [N]. Pixels may exceed the radius by a millionth of the largest that could occur, and
      lengths by a hundred-thousandth of them besides, whatever the unit, and sums, under "l1", by
      the rounding of each pixel; the box by nothing. A pixel that is not finite is outside.
    """
    moved = (np.asarray(adversarial, np.float64) - np.asarray(clean, np.float64)).reshape(
        len(clean), -1
    )
    epsilon = np.asarray(epsilon, np.float64)
    if bounds is not None:
        largest = max(abs(float(bound)) for bound in bounds)
    else:
        largest = (
            np.abs(np.asarray(clean, np.float64)).reshape(len(clean), -1).max(axis=1, initial=0)
        )
        largest += np.where(np.isfinite(epsilon), epsilon, 0)
    rounding = _PIXEL * largest
    if norm == "linf":
        inside = np.abs(moved).max(axis=1, initial=0) <= epsilon + rounding
    elif norm == "l2":
        inside = np.linalg.norm(moved, axis=1) <= epsilon * (1 + _LENGTH) + rounding
    else:
        summed = rounding + _HALF_UNIT * largest * np.count_nonzero(moved, axis=1)
        inside = np.abs(moved).sum(axis=1) <= epsilon * (1 + _LENGTH) + summed
    inside &= np.isfinite(moved).all(axis=1)
    if bounds is not None:
        flat = np.asarray(adversarial).reshape(len(clean), -1)
        inside &= ((flat >= bounds[0]) & (flat <= bounds[1])).all(axis=1)
    return inside
