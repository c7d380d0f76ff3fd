"""What a network says of images, as arrays on the host: logits, probabilities, margins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from robustjax import attacks, data
from robustjax.arguments import checked_count, refusal, shown
from robustjax.arguments.arrays import check_class_range
from robustjax.attacks import _checks as checks
from robustjax.attacks.engine import model as network
from robustjax.attacks.engine.rows import predicted
from robustjax.batching import batches_of_one_shape
from robustjax.errors import UserError

LogitsFn = Callable[[jax.Array], jax.Array]

Progress = Callable[[str, int, int], None]
"""Told what is computed, how much of it is done, and of how much."""


class LogitStatistics(NamedTuple):
    """What a network says of N images.

    Attributes:
      logits: float32 [N, K].
      labels: int [N].
      probability: float64 [N], the softmax probability of the label.
      true_logit: float32 [N], the label's.
      wrong_logit: float32 [N], the largest of the other classes.
      prediction: int [N]; -1 where a logit is not finite.
      confidence: float64 [N], the largest softmax probability.
    """

    logits: np.ndarray
    labels: np.ndarray
    probability: np.ndarray
    true_logit: np.ndarray
    wrong_logit: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """The label's logit minus the largest other one, [N]; above 0 where it is predicted."""
        return self.true_logit - self.wrong_logit

    @property
    def wrong(self) -> np.ndarray:
        """Whether the prediction is not the label, bool [N]."""
        return self.prediction != self.labels


def checked_subject(
    logits_fn: Any, dataset: Any, threat: Any, batch_size: Any
) -> tuple[attacks.ThreatModel, int]:
    """Refuses a network, a data set, a threat model or a size of batches that is none.

    Returns:
      The threat model, its numbers float32 and each one or [N], and the size, at most N.
    """
    checks.checked_logits_fn(logits_fn)
    if not isinstance(dataset, data.Dataset):
        raise refusal("dataset", type(dataset).__name__, "values of data.Dataset")
    threat = checks.checked_threat(threat, len(dataset), jnp.float32)
    checks.check_inside_box(float_images(dataset.images), threat)
    return threat, min(checked_count("batch_size", batch_size, 1), len(dataset))


def require_finite_epsilon(threat: attacks.ThreatModel) -> None:
    """Refuses a ball without end, which has no random point and no scale."""
    if not checks.has_finite_epsilon(threat):
        raise refusal("threat.epsilon", shown(threat.epsilon), "finite numbers")


def of_rows(tree: Any, rows: Any) -> Any:
    """The numbers that belong to some rows, of those that are one for each of [N]."""
    return jax.tree.map(lambda leaf: leaf[rows] if np.ndim(leaf) else leaf, tree)


def float_images(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]; floats as they are."""
    return np.asarray(data.to_float(images)) if images.dtype == np.uint8 else images


def compute_logits(
    logits_fn: LogitsFn, images: np.ndarray | jax.Array, batch_size: int = 128
) -> np.ndarray:
    """The logits of any number of images.

    Args:
      logits_fn: maps images [B, H, W, C] to logits [B, K].
      images: uint8, or float in [0, 1], [N, H, W, C], at least one.
      batch_size: images at once; the last batch is filled up, so that one program serves all.

    Returns:
      float32 [N, K].

    Raises:
      ValueError: no function, no array of images, or no image.
    """
    checks.checked_logits_fn(logits_fn)
    if not hasattr(images, "dtype") or not images.ndim or not len(images):
        raise UserError(f"images={shown(images)}: accepted is an array [N, H, W, C], N at least 1")
    total = len(images)
    size = min(checked_count("batch_size", batch_size, 1), total)
    found = []
    for batch in batches_of_one_shape(total, size):
        some = jnp.asarray(float_images(np.asarray(images[batch.rows])))
        logits = network.clean_logits(logits_fn, some, np.zeros(size, np.int32))
        found.append(batch.without_filling(np.asarray(logits, np.float32)))
    return np.concatenate(found)


def statistics_of(logits: np.ndarray, labels: np.ndarray) -> LogitStatistics:
    """Reads the statistics off logits [N, K] and labels [N].

    Raises:
      ValueError: other shapes, or a label outside of 0..K - 1.
    """
    if np.ndim(logits) != 2 or np.shape(labels) != (len(logits),):
        raise UserError(
            f"logits of shape {np.shape(logits)}, labels of shape {np.shape(labels)}: accepted are "
            "[N, K] and [N]"
        )
    check_class_range("labels", labels, logits.shape[1])
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    probabilities = softmax(logits.astype(np.float64), axis=1)
    return LogitStatistics(
        logits=logits,
        labels=labels,
        probability=probabilities[rows, labels],
        true_logit=logits[rows, labels],
        wrong_logit=others.max(axis=1),
        prediction=predicted(logits),
        confidence=probabilities.max(axis=1),
    )


def summary(values: np.ndarray) -> dict[str, float]:
    """Mean, standard deviation, least and largest of any number of values."""
    values = np.asarray(values, np.float64)
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
    }
