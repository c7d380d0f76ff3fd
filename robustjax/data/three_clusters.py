"""The Three Clusters data set of SENSE, on which no linear classifier is accurate and robust."""

import math

import numpy as np

from robustjax.arguments import require_finite, require_whole

_LARGEST = 1e30
"""Of lengths: points far beyond would be infinite in float32."""


def three_clusters(
    seed: int, num_examples: int, *, p: float = 0.55, m: float = 7.0, sigma: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points in the plane: two clusters of one class, and one of the other between them.

    The classes are equally likely. Class 1 is N(A, σ²) with probability p and N(B, σ²) otherwise,
    class 0 is N(C, σ²), where A = (1, m), B = (1, −m) and C = (−1, 0).

    Args:
        seed: Of the draw.
        num_examples: Number N of points; the paper does not say how many it has.
        p: Share of cluster A in class 1, in [0, 1].
        m: Height of the clusters of class 1.
        sigma: Standard deviation of each coordinate.

    Returns:
        Points, float32 [N, 2], and labels, int32 [N], 0 for the paper's −1.

    Raises:
        ValueError: If an argument is out of range.

    Source: Sensible Adversarial Learning (Kim and Wang), section 5.1.
    """
    require_whole("seed", seed, most=math.inf, accepted="whole numbers, 0 or more")
    require_whole("num_examples", num_examples, 1)
    require_finite("p", p, 0, 1)
    require_finite("m", m, -_LARGEST, _LARGEST)
    require_finite("sigma", sigma, 0, _LARGEST)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_examples)
    above = generator.uniform(size=num_examples) < p
    heights = np.where(labels == 1, np.where(above, m, -m), 0.0)
    centres = np.stack([2.0 * labels - 1, heights], axis=1)
    points = centres + sigma * generator.normal(size=(num_examples, 2))
    return points.astype(np.float32), labels.astype(np.int32)
