"""A run's network with the examples it is looked at on, and the attack on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from robustjax import attacks
from robustjax.analysis.model_statistics import (
    LogitStatistics,
    Progress,
    compute_logits,
    statistics_of,
)
from robustjax.evaluation.one_attack import run_attack
from robustjax.evaluation.spec import STEPPED, AttackSpec
from robustjax.evaluation.trained import TrainedNetwork
from robustjax.text import format_value


class Subject(NamedTuple):
    """A run whose network is looked at.

    Attributes:
      network: with the examples that are looked at.
      positions: int [N], theirs in the whole test set.
      spec: the attack with all its settings.
      norm: of the ball.
      key: of its draws.
      batch_size: examples at once.
      report: told how far it is.
    """

    network: TrainedNetwork
    positions: np.ndarray
    spec: AttackSpec
    norm: str
    key: jax.Array
    batch_size: int
    report: Progress

    @property
    def threat(self) -> attacks.ThreatModel:
        """The ball and the box."""
        return self.network.threat(self.spec.epsilon, self.norm)

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class."""
        test_set = self.network.test_set
        return test_set.class_names or tuple(str(label) for label in range(test_set.num_classes))

    def statistics(self, images: np.ndarray) -> LogitStatistics:
        """What the network says of images of the examples."""
        logits = compute_logits(self.network.logits_fn, images, self.batch_size)
        return statistics_of(logits, self.network.test_set.labels)

    def adversarial(self) -> np.ndarray:
        """The examples under the attack, float32 [N, H, W, C]."""
        score = run_attack(
            self.spec,
            self.key,
            self.network.logits_fn,
            self.network.test_set,
            self.threat,
            batch_size=self.batch_size,
            report=lambda name, done, of, accuracy: self.report(name, done, of),
            keep_images=True,
        )
        assert score.images is not None  # They are kept.
        return score.images

    def clean_and_adversarial(self) -> tuple[LogitStatistics, LogitStatistics]:
        """What the network says of the examples before and after the attack."""
        clean = self.statistics(self.network.test_set.images)
        return clean, self.statistics(self.adversarial())

    @property
    def ball(self) -> str:
        """The ball in words."""
        assert self.spec.epsilon is not None  # It is completed.
        return f"{self.norm} ε = {_shortly(self.spec.epsilon)}"

    @property
    def attack_in_words(self) -> str:
        """The attack with its ball and the size of its steps."""
        step = ""
        if self.spec.kind in STEPPED:
            step = f", steps of {_shortly(self.spec.stepped.step_size)}"
        return f"{self.spec.name}, {self.ball}{step}"


Subjects = Mapping[str, Subject]
"""What a run is called -> what is looked at."""


def title_of(subjects: Subjects) -> str:
    """The attack and the examples; where runs differ in them, all are listed."""
    attacked = dict.fromkeys(subject.attack_in_words for subject in subjects.values())
    networks = [subject.network for subject in subjects.values()]
    sets = dict.fromkeys(
        f"{len(network.test_set)} {network.split} images of {network.config.dataset}"
        for network in networks
    )
    return f"{' / '.join(attacked)}; {' / '.join(sets)}"


def _shortly(value: float) -> str:
    text = format_value(value)
    return text if len(text) <= 8 else f"{value:.4g}"
