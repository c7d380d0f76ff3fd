"""Accuracy on corrupted test images, by corruption and severity, and its mean."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from robustjax import data, training
from robustjax.data.corrupted import CORRUPTIONS, SEVERITIES, CorruptedImages
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.evaluation.one_attack import run_attack
from robustjax.evaluation.spec import parse_attack
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.evaluation.verdicts import wilson_interval
from robustjax.runs.evaluations import CLEAN, Record

Report = Callable[[str, int, int, float], None]
"""Told what was measured, how many are done, of how many, and the accuracy on it."""


class CorruptionScore(NamedTuple):
    """How a network did on one corruption at one severity.

    Attributes:
      name: of the corruption.
      severity: 1 to 5.
      record: what is kept of it.
      is_new: whether it was measured now, and not known before.
    """

    name: str
    severity: int
    record: Record
    is_new: bool


def load_for_corruptions(
    workdir: str | os.PathLike, checkpoint: str, images: CorruptedImages
) -> TrainedNetwork:
    """Loads the network of a run; its own test set need not be there.

    Args:
      workdir: the run's folder.
      checkpoint: "best" or "latest".
      images: what it is judged on.

    Returns:
      The network; its `test_set` is the first corruption at severity 1.

    Raises:
      ValueError: as `load_network`.
    """
    first = images.dataset(images.names[0], 1, examples=1)
    return load_network(workdir, checkpoint, dataset=first)


def measure_corruptions(
    network: TrainedNetwork,
    images: CorruptedImages,
    *,
    examples: int = 0,
    batch_size: int = 128,
    devices: Sequence[jax.Device] = (),
    known: Iterable[Record] = (),
    checkpoint: Mapping[str, Any],
    about: Mapping[str, Any],
    report: Report = lambda name, done, total, accuracy: None,
) -> Iterator[CorruptionScore]:
    """Measures the accuracy on each corruption at each severity, one after the other.

    Args:
      network: what is judged, as `load_for_corruptions` gives it.
      images: of the corruptions.
      examples: the first so many of each severity; 0: all.
      batch_size: images at once.
      devices: that share a batch; none: the default one.
      known: records of before; what they hold of these images and these weights is not measured
        again.
      checkpoint: of the network, as records have it; its "digest" tells weights apart.
      about: everything else that a record says.
      report: see `Report`.

    Raises:
      DataError: a file is damaged; the corruptions before it have been given.
      ValueError: the images or labels do not fit the network.
    """
    before: dict[str, Record] = {}
    for record in known:
        before.setdefault(record.subject, record)
        if record.examples >= before[record.subject].examples:
            before[record.subject] = record
    total, done = len(images.names) * SEVERITIES, 0
    for name in images.names:
        for severity in range(1, SEVERITIES + 1):
            found = images.dataset(
                name, severity, examples=examples, image_size=network.config.image_size
            )
            dataset = _fitting(network, found)
            count = min(examples or len(dataset), len(dataset))
            record = Record(
                attack=CLEAN,
                settings={},
                data={
                    "digest": digest(dataset.images, dataset.labels),
                    "dataset": f"{name} severity {severity}",
                    "available_examples": max(len(dataset), len(images.labels)),
                    "own": False,
                },
                checkpoint=checkpoint,
                examples=count,
                accuracy=0.0,
                interval=(0.0, 1.0),
                about=about,
            )
            earlier = before.get(record.subject)
            is_new = earlier is None or earlier.correct is None or earlier.examples < count
            if is_new:
                correct = run_attack(
                    parse_attack(CLEAN),
                    jax.random.key(0),  # Nothing is drawn.
                    network.logits_fn,
                    data.first(dataset, count),
                    network.threat(),
                    batch_size=batch_size,
                    devices=devices,
                ).correct
            else:
                assert earlier is not None and earlier.correct is not None
                correct, record = earlier.correct[:count], earlier
            record = dataclasses.replace(
                record,
                examples=count,
                accuracy=float(correct.mean()),
                interval=wilson_interval(int(correct.sum()), count),
                correct=np.asarray(correct),
            )
            done += 1
            report(f"{name} {severity}", done, total, record.accuracy)
            yield CorruptionScore(name, severity, record, is_new)


def summarize_corruptions(
    scores: Sequence[CorruptionScore],
    *,
    directory: str,
    checkpoint: Mapping[str, Any],
    **about: Any,
) -> dict[str, Any]:
    """What corruptions.json says.

    Args:
      scores: of each corruption at each severity.
      directory: where the images lie.
      checkpoint: of the network.
      **about: everything else that is needed to repeat it.

    Returns:
      JSON: "mean_accuracy", over all severities of the benchmark's 15 corruptions, each the same
      weight (of those that are there, and "missing" names the others; None if none is there);
      "mean_by_severity", likewise; "corruptions", with the accuracies of the five severities and
      their mean for each, and "in_mean"; and what was given.

    Source: Hendrycks and Dietterich (2019), section 4.1, whose CE is 1 - accuracy, summed over the
      severities; not divided by that of AlexNet here.
    """
    by_name: dict[str, list[float]] = {}
    for score in scores:
        by_name.setdefault(score.name, []).append(score.record.accuracy)
    in_mean = [name for name in by_name if name in CORRUPTIONS]
    means = {name: math.fsum(values) / len(values) for name, values in by_name.items()}
    columns = list(zip(*(by_name[name] for name in in_mean), strict=True))
    return {
        "mean_accuracy": _mean([means[name] for name in in_mean]),
        "mean_by_severity": [_mean(column) for column in columns],
        "missing": [name for name in CORRUPTIONS if name not in by_name],
        "corruptions": {
            name: {
                "accuracy": by_name[name],
                "mean_accuracy": means[name],
                "in_mean": name in in_mean,
            }
            for name in by_name
        },
        "examples": scores[0].record.examples,
        "available_examples": scores[0].record.data["available_examples"],
        "directory": directory,
        "checkpoint": dict(checkpoint),
        **about,
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _fitting(network: TrainedNetwork, dataset: data.Dataset) -> data.Dataset:
    """Corrupted images as the network takes them, of its classes alone."""
    config, num_classes = network.config, network.test_set.num_classes
    if dataset.class_names and not config.classes and dataset.num_classes != num_classes:
        raise UserError(
            f"{dataset.name}: folders of {dataset.num_classes} classes, and the network has "
            f"{num_classes}; accepted is a folder for each, since their order numbers them"
        )
    if not config.classes:
        dataset = dataclasses.replace(dataset, num_classes=num_classes)
    dataset = training.restrict(dataset, config)
    if dataset.images.shape[1:] != network.test_set.images.shape[1:]:
        raise UserError(
            f"{dataset.name}: images of {list(dataset.images.shape[1:])} among others of "
            f"{list(network.test_set.images.shape[1:])}; accepted is one shape"
        )
    return dataset
