"""What training measures of itself: accuracies after each epoch, and images per second."""

import time
from collections.abc import Sequence
from typing import Any

import jax

from robustjax import attacks
from robustjax.measure import make_measure
from robustjax.training.experiment import Experiment
from robustjax.training.measure_attack import describe, measuring_attack

PyTree = Any


class EpochAccuracy:
    """Clean and robust accuracy on a sample of the training set, and on what is held out.

    Args:
      experiment: names the sets, and the attack.
      devices: of this process, that share the examples.

    Attributes:
      description: one line, what measures and on what.
    """

    def __init__(self, experiment: Experiment, devices: Sequence[jax.Device]) -> None:
        config = experiment.config
        self._measure = make_measure(
            experiment.model,
            devices,
            attacks.ThreatModel(config.norm, config.test_epsilon),
            attack=measuring_attack(config),
            batch_size=config.batch_size,
        )
        sample, held_out = (
            experiment.train_set.sample(config.measure_examples),
            experiment.holdout_set,
        )
        self._sets = {"train": sample, "holdout": held_out}
        self.description = describe(
            config, len(sample), None if held_out is None else len(held_out)
        )

    def of(self, variables: PyTree, key: jax.Array) -> dict[str, float | None]:
        """The accuracies as a row of metrics.jsonl names them; None where nothing is held out.

        Args:
          variables: of the network, replicated.
          key: draws the starts of the attack.
        """
        row: dict[str, float | None] = {}
        for name, examples in self._sets.items():
            found = None if examples is None else self._measure(variables, examples, key)
            row[f"{name}_clean_accuracy"] = None if found is None else found.clean
            row[f"{name}_robust_accuracy"] = None if found is None else found.robust
        return row


class Rate:
    """Images per second, from the end of the first step on, so that compiling does not count.

    Args:
      batch_size: images a step.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._times: list[float] = [time.monotonic()]

    def step_done(self) -> None:
        """One more step is done."""
        self._times.append(time.monotonic())

    def images_per_second(self) -> float:
        """The rate of the steps so far."""
        first = 1 if len(self._times) > 2 else 0
        steps, seconds = len(self._times) - 1 - first, self._times[-1] - self._times[first]
        return steps * self._batch_size / max(seconds, 1e-9)
