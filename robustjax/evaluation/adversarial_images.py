"""Adversarial images in a file, and a check of them that trusts nothing but the images."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from robustjax import installed
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.errors import UserError
from robustjax.evaluation.one_attack import AttackScore
from robustjax.evaluation.summary import MEASURED
from robustjax.files import Path, as_file_name, parse_json, set_aside, write_whole
from robustjax.npz import NpzFile
from robustjax.runs.evaluations import Record


class AdversarialImages(NamedTuple):
    """What a file holds.

    Attributes:
      images: float32 [N, H, W, C], of the first N examples of the test set.
      labels: int [N].
      robust: bool [N], the examples that the attack says it could not break.
      settings: of the attack; "norm" and "epsilon" among them.
      weights: digest of what was attacked; "" if the file does not say.
      data: digest of all the images and labels that these are the first of; "" likewise.
      seed: of the attack; None likewise.
    """

    images: np.ndarray
    labels: np.ndarray
    robust: np.ndarray
    settings: dict[str, Any]
    weights: str = ""
    data: str = ""
    seed: int | None = None


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


def save(
    folder: Path,
    name: str,
    score: AttackScore,
    labels: np.ndarray,
    *,
    weights: str,
    data: str,
    seed: int,
) -> tuple[Path, Path | None]:
    """Writes the images of an attack, whole or not at all.

    Args:
      folder: where to.
      name: of the attack.
      score: with its images.
      labels: int [N], of as many examples or more.
      weights: digest of what was attacked.
      data: digest of all the images and labels that the attacked ones are the first of.
      seed: of the attack.

    Returns:
      The path of the file; and that of an earlier one that holds something else, or more images,
      and is kept under another name. None if there is none.
    """
    path, kept = path_of(folder, name), None
    subject: dict[str, Any] = {"weights": weights, "data": data, "seed": seed}
    if path.exists() and not _replaces(score, subject, path):
        kept = set_aside(path)
    assert score.images is not None
    content = io.BytesIO()
    np.savez_compressed(
        content,
        images=score.images,
        labels=labels[: len(score.images)],
        robust=score.correct,
        settings=json.dumps(score.settings),
        **subject,
    )
    return write_whole(path, content.getvalue()), kept


def path_of(folder: Path, name: str) -> Path:
    """Where the images of an attack lie in a folder of them."""
    return folder / f"{as_file_name(name)}.npz"


def has(path: Path, record: Record, *, weights: str, data: str, seed: int) -> bool:
    """Whether a file has the images that a record is of.

    Args:
      path: of the file.
      record: of the attack.
      weights: as for `save`.
      data: as for `save`.
      seed: as for `save`.
    """
    try:
        found = load(path)
    except ValueError:
        return False
    own = {key: value for key, value in found.settings.items() if key not in MEASURED}
    subject = (found.weights, found.data, found.seed)
    whole = len(found.images) >= record.examples
    return own == record.settings and subject == (weights, data, seed) and whole


def _replaces(score: AttackScore, subject: Mapping[str, Any], path: Path) -> bool:
    """Whether a file has nothing that the images of the same attack do not have too."""
    try:
        before = load(path)
    except ValueError:
        return False
    mine = {key: value for key, value in score.settings.items() if key not in MEASURED}
    other = {key: value for key, value in before.settings.items() if key not in MEASURED}
    same = subject == {"weights": before.weights, "data": before.data, "seed": before.seed}
    return mine == other and same and len(before.images) <= len(score.correct)


def load(path: Path) -> AdversarialImages:
    """Reads a file of `save`; nothing in it is executed.

    Raises:
      ValueError: the file is not there, or is not such a file; names it.
    """
    if not path.exists():
        command = f"{installed.written('evaluate')} --save_images"
        raise UserError(f"{path} is not there; {command} writes such files")
    try:
        with NpzFile(path.read_bytes()) as stored:
            images, labels, robust = (stored[name] for name in ("images", "labels", "robust"))
            settings = parse_json(stored.text("settings"))
            weights = stored.text("weights") if "weights" in stored else ""
            data = stored.text("data") if "data" in stored else ""
            seed = int(stored["seed"]) if "seed" in stored else None
    except KeyError as error:
        raise UserError(f"{path} holds no adversarial images: it has no array {error}") from error
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no adversarial images: {error}") from error
    for name, array, kinds, what in (
        ("images", images, "f", "floating point [N, H, W, C]"),
        ("labels", labels, "iu", "integers [N]"),
        ("robust", robust, "b", "truth values [N]"),
    ):
        if array.dtype.kind not in kinds or array.ndim != (4 if name == "images" else 1):
            raise UserError(
                f"{path} holds no adversarial images: {name} is {array.dtype} "
                f"{list(array.shape)}, not {what}"
            )
    if images.dtype.itemsize > 8:
        raise UserError(f"{path} holds images of {images.dtype}, which no device reckons with")
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if not len(images) == len(labels) == len(robust):
        raise UserError(f"{path}: its images, labels and verdicts differ in number")
    if not len(images):
        raise UserError(f"{path} holds no image")
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no adversarial images: its settings are no JSON object")
    return AdversarialImages(images, labels, robust, settings, weights, data, seed)


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
        raise UserError(
            f"the file's images have shape {found.images.shape}, the test set's {clean.shape}"
        )
    if not np.array_equal(found.labels, labels):
        raise UserError("the file's labels are not those of the test set")
    inside = is_inside(found.images, clean, norm, epsilon, (0.0, 1.0))
    correct = (clean_predictions == labels) & (predictions == labels)
    return Verdict(
        outside=np.flatnonzero(~inside),
        not_broken=np.flatnonzero(~found.robust & correct),
        wrongly_robust=np.flatnonzero(found.robust & ~correct),
        robust_accuracy=float(correct.mean()),
    )
