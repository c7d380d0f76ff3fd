"""Checks of adversarial images that share nothing with the attacks that made them."""

from __future__ import annotations

import numpy as np

# Rounding of single precision: in units of pixels, and relative to a length.
_PIXEL, _LENGTH = 1e-6, 1e-5


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
      norm: "linf" or "l2".
      epsilon: radius, a scalar or [N].
      bounds: (low, high), or None: no box.

    Returns:
      bool [N]. Pixels may exceed the radius by 1e-6 and lengths by a hundred-thousandth of them;
      the box by nothing. A pixel that is not finite is outside.
    """
    moved = (np.asarray(adversarial, np.float64) - np.asarray(clean, np.float64)).reshape(
        len(clean), -1
    )
    epsilon = np.asarray(epsilon, np.float64)
    if norm == "linf":
        inside = np.abs(moved).max(axis=1, initial=0) <= epsilon + _PIXEL
    else:
        inside = np.linalg.norm(moved, axis=1) <= epsilon * (1 + _LENGTH) + _PIXEL
    inside &= np.isfinite(moved).all(axis=1)
    if bounds is not None:
        flat = np.asarray(adversarial).reshape(len(clean), -1)
        inside &= ((flat >= bounds[0]) & (flat <= bounds[1])).all(axis=1)
    return inside
