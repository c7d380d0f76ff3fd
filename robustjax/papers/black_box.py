"""Black-box cells: a network shown the adversarial images of another one, each measured once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation.summary import versions
from robustjax.evaluation.trained import load_network
from robustjax.evaluation.transfer import parse_transfer_attack, transfer_matrix
from robustjax.evaluation.verdicts import wilson_interval
from robustjax.files import Path, read_json, write_whole
from robustjax.papers.item import Column, Item, Row
from robustjax.papers.planned import Networks, Request, evaluation_of
from robustjax.runs.evaluations import is_count, is_fraction, is_interval

FOLDER = "black_box"
"""The folder, in the one that is written into, which has a file for each pair."""


class Pair(NamedTuple):
    """A network that is shown the adversarial images of another.

    Attributes:
      folder: that its file lies in.
      source: the folder of the network that is attacked.
      target: that of the network that judges.
      attack: as `--attacks` takes it.
      epsilon: radius of the ball.
      examples: the first so many of the test set; 0: all.
      checkpoint: "latest" or "best", of both.
      sets: how often the images are made, each time from other starts.
    """

    folder: Path
    source: Path
    target: Path
    attack: str
    epsilon: float
    examples: int
    checkpoint: str
    sets: int

    @property
    def path(self) -> Path:
        """Of its file."""
        known_by = json.dumps([self.source.name, self.target.name, *self[3:]])
        return self.folder / f"{hashlib.sha256(known_by.encode()).hexdigest()[:16]}.json"

    def images(self) -> tuple[Any, ...]:
        """What the adversarial images depend on; pairs of the same share them."""
        return (self.source, *self[3:])


def pair_of(
    config: TrainConfig, column: Column, seed: int, networks: Networks, request: Request
) -> Pair:
    """The pair of a cell.

    Args:
      config: of the row's network, the target.
      column: one with a source.
      seed: of the row.
      networks: where they lie.
      request: how they are made.
    """
    assert column.source is not None
    parse_transfer_attack(column.attack)
    source = Path(networks.config(column.source, seed).workdir)
    wanted = evaluation_of(column, config, request)
    epsilon = config.test_epsilon if wanted.epsilon is None else wanted.epsilon
    return Pair(
        request.folder / FOLDER,
        source,
        Path(config.workdir),
        column.attack,
        epsilon,
        wanted.examples,
        wanted.checkpoint,
        column.sets,
    )


def pairs_of(
    items: Mapping[str, tuple[Item, Sequence[Row]]], networks: Networks, request: Request
) -> list[Pair]:
    """The pairs of some items, each once."""
    found = {
        pair_of(networks.config(row.training, seed), column, seed, networks, request): None
        for item, rows in items.values()
        for seed in request.seeds_of(item)
        for row in rows
        if row.training is not None
        for column in map(row.column, item.columns)
        if column.source is not None
    }
    return list(found)


def read(pair: Pair) -> tuple[float, tuple[float, float], int] | None:
    """Accuracy, its 95 % interval, and how many examples; None where nothing is measured."""
    if not pair.path.exists():
        return None
    try:
        content = read_json(pair.path)
    except ValueError:  # Damaged: as if it had never been made.
        return None
    accuracy, interval, examples = map(content.get, ("accuracy", "interval_95", "examples"))
    if not (is_fraction(accuracy) and is_interval(interval) and is_count(examples)):
        return None
    return accuracy, (interval[0], interval[1]), examples


def groups(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """Pairs that share their adversarial images, those that are measured left out."""
    found: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in pairs:
        if read(pair) is None:
            found.setdefault(pair.images(), []).append(pair)
    return list(found.values())


def measure(group: Sequence[Pair], batch_size: int = 0) -> None:
    """Makes a source's adversarial images, shows them to each target, and writes what is found.

    Counted is, as in the papers, what a target gets right of the adversarial images, whether or not
    it was right about the clean ones; that share is written besides.

    Args:
      group: one of `groups`.
      batch_size: examples attacked at once; 0: as the source was trained.

    Raises:
      ValueError: source and target were not trained on the same data set.
    """
    first, started = group[0], time.monotonic()
    source = load_network(first.source, first.checkpoint, examples=first.examples)
    targets = {
        pair.target.name: load_network(pair.target, pair.checkpoint, examples=pair.examples)
        for pair in group
    }
    for name, target in targets.items():
        if target.config.dataset != source.config.dataset:
            raise UserError(
                f"{name} was trained on {target.config.dataset}, and is shown images made on "
                f"{first.source.name}, of {source.config.dataset}"
            )
    size = min(batch_size or source.config.batch_size, len(source.test_set))
    matrices = [
        transfer_matrix(
            first.attack,
            jax.random.key(number),
            {"source": source.logits_fn},
            {name: target.logits_fn for name, target in targets.items()},
            source.test_set,
            source.threat(first.epsilon),
            batch_size=size,
        )
        for number in range(first.sets)
    ]
    for pair in group:
        name = pair.target.name
        right = np.logical_and.reduce([one.correct["source"][name] for one in matrices])
        content = {
            "source": pair.source.name,
            "target": pair.target.name,
            "checkpoint": pair.checkpoint,
            "attack": matrices[0].settings,
            "sets": pair.sets,
            "examples": len(right),
            "accuracy": float(right.mean()),
            "interval_95": wilson_interval(int(right.sum()), len(right)),
            "robust_accuracy": float((right & matrices[0].clean[name]).mean()),
            "seconds": round(time.monotonic() - started, 1),
            "versions": versions(),
        }
        write_whole(pair.path, json.dumps(content, indent=2) + "\n")
