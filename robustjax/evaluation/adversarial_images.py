"""Adversarial images in a file, and a check of them that trusts nothing but the images."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any, NamedTuple

import numpy as np

from robustjax.attacks.verification import is_inside
from robustjax.evaluation.suite import AttackScore
from robustjax.files import Path, write_whole


class AdversarialImages(NamedTuple):
    """What a file holds.

    Attributes:
      images: float32 [N, H, W, C], of the first N examples of the test set.
      labels: int [N].
      robust: bool [N], the examples that the attack says it could not break.
      settings: of the attack; "norm" and "epsilon" among them.
    """

    images: np.ndarray
    labels: np.ndarray
    robust: np.ndarray
    settings: dict[str, Any]


class Verdict(NamedTuple):
    """What a second look at adversarial images found.

    Attributes:
      outside: positions of images outside of the ball or the box, or not finite.
      not_broken: positions of examples that the file says are broken, and whose image is classified
        correctly, as is the clean one.
      wrongly_robust: positions of examples that the file says are robust, and that are
        misclassified, as they are or in the file.
      robust_accuracy: share of the examples that are classified correctly clean and in the file.
    """

    outside: np.ndarray
    not_broken: np.ndarray
    wrongly_robust: np.ndarray
    robust_accuracy: float

    @property
    def holds(self) -> bool:
        """Whether the file is what it says it is."""
        return not (len(self.outside) or len(self.not_broken) or len(self.wrongly_robust))


def save(path: Path, score: AttackScore, labels: np.ndarray) -> Path:
    """Writes the images of an attack, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        images=score.images,
        labels=labels[: len(score.images)],
        robust=score.correct,
        settings=json.dumps(score.settings),
    )
    return write_whole(path, content.getvalue())


def load(path: Path) -> AdversarialImages:
    """Reads a file of `save`; nothing in it is executed.

    Raises:
      ValueError: the file is not there, or is not such a file.
    """
    if not path.exists():
        raise ValueError(f"{path} is not there; launch/evaluate.py --save_images writes such files")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            found = AdversarialImages(
                stored["images"],
                stored["labels"],
                stored["robust"],
                json.loads(str(stored["settings"])),
            )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no adversarial images ({error})") from error
    if not len(found.images) == len(found.labels) == len(found.robust):
        raise ValueError(f"{path}: its images, labels and verdicts differ in number")
    return found


def verify(
    found: AdversarialImages,
    clean: np.ndarray,
    labels: np.ndarray,
    clean_predictions: np.ndarray,
    predictions: np.ndarray,
    norm: str,
    epsilon: float,
) -> Verdict:
    """Looks at adversarial images again.

    Args:
      found: of `load`.
      clean: float [N, H, W, C], the clean images, from the data set.
      labels: int [N], from the data set.
      clean_predictions: int [N], the network's at the clean images.
      predictions: int [N], the network's at the adversarial images.
      norm: of the ball.
      epsilon: its radius.

    Raises:
      ValueError: the images have another shape than the clean ones, or the labels differ.
    """
    if found.images.shape != clean.shape:
        raise ValueError(
            f"the file's images have shape {found.images.shape}, the test set's {clean.shape}"
        )
    if not np.array_equal(found.labels, labels):
        raise ValueError("the file's labels are not those of the test set")
    inside = is_inside(found.images, clean, norm, epsilon, (0.0, 1.0))
    correct = (clean_predictions == labels) & (predictions == labels)
    return Verdict(
        outside=np.flatnonzero(~inside),
        not_broken=np.flatnonzero(~found.robust & correct),
        wrongly_robust=np.flatnonzero(found.robust & ~correct),
        robust_accuracy=float(correct.mean()),
    )
