"""How much of its tiles a tensor or a product fills: what padding costs."""

import math
from collections.abc import Sequence


def padded(size: int, tile: int) -> int:
    """The size rounded up to whole tiles."""
    return -(-size // tile) * tile


def matrix_fill(contracted: int, features: int, unit: int = 128) -> float:
    """The share of a matrix unit's tiles that a product of these sizes fills.

    A matrix unit holds `unit` × `unit` entries of one factor; the rows of the other stream past and
    need no padding to speak of.

    Args:
      contracted: length of the sums; of a convolution its input channels, times the taps of its
        kernel where the compiler brings them into the same sum.
      features: of the result; of a convolution its output channels.
      unit: rows and columns of the matrix unit.
    """
    return contracted * features / (padded(contracted, unit) * padded(features, unit))


def padded_entries(sizes: Sequence[int], minor_to_major: Sequence[int], tile: Sequence[int]) -> int:
    """Entries that a tensor takes up in memory.

    Args:
      sizes: of its dimensions.
      minor_to_major: its dimensions, the one whose neighbours lie side by side first.
      tile: of the most minor dimensions, the most minor last, as XLA writes T(8,128).
    """
    taken = list(sizes)
    for dimension, length in zip(minor_to_major, reversed(tile), strict=False):
        taken[dimension] = padded(taken[dimension], length)
    return math.prod(taken)
