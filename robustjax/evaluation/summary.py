"""What an evaluation found, as evaluation.json says it."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jaxlib
import numpy as np

from robustjax import __version__
from robustjax.evaluation.one_attack import AttackScore
from robustjax.evaluation.verdicts import wilson_interval
from robustjax.runs.evaluations import WORST_CASE, WORST_CASE_INTERVAL, is_same

OTHERS = "others"
"""The key of what was measured of other data, in other balls, or at other checkpoints."""

COMMANDS = "commands"
"""The key of the command lines that made the figures."""

CURVES = "curves"
"""The key of the attacks that were run at several radii."""

PER_CLASS = "per_class"
"""The key of the accuracies of each class."""

PAIRED = "paired"
"""The key of the attacks beside the strongest of them, on the examples that they share."""

BY_IMAGE = "evaluation_examples.csv"
"""The file that says of each example what it withstood."""

OF_ALL = ("method", "model", "precision", "seed", "batch_size", "trained_epochs", "protocol")
"""Facts that an attack's entry repeats where they are not those of the whole evaluation."""

WORST = (WORST_CASE, WORST_CASE_INTERVAL)
"""What is said of the worst case over all attacks."""

MEASURED = ("robust_accuracy", "interval_95", "after_each", "seconds", "warnings")
"""What an attack's entry has beside its settings."""


def told_apart(attacks: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A name for each attack: its own; of those that share one, the last has it alone.

    Args:
      attacks: the name and the settings of each.

    Returns:
      Of the others the name with the settings that set them apart from the last.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for attack, settings in reversed(attacks):
        name = attack
        if name in found:
            different = [
                f"{key}={value}"
                for key, value in settings.items()
                if not is_same(found[attack].get(key), value)
            ]
            name = f"{attack}({','.join(different)})"
        while name in found:
            name += "'"
        found[name] = settings
    return list(reversed(found))


def summarize(scores: Mapping[str, AttackScore], **about: Any) -> dict[str, Any]:
    """The content of evaluation.json.

    Args:
      scores: of `evaluate`.
      **about: what else is to be recorded: the checkpoint, the data set, the seed.

    Returns:
      {"clean_accuracy", "attacks": {name: {"robust_accuracy", "interval_95", settings...}},
      "worst_case_robust_accuracy", "examples", ...}, fractions in [0, 1]. The worst case counts an
      example as robust only if it withstands every attack of the list; attacks on some of the
      examples only have no part in it, and state their number.
    """
    clean = scores["clean"].correct
    on_all = [score.correct for score in scores.values() if len(score.correct) == len(clean)]
    worst = np.logical_and.reduce(on_all)
    attacks = {
        name: {
            **_accuracy("robust_accuracy", score.correct),
            **({} if len(score.correct) == len(clean) else {"examples": len(score.correct)}),
            **score.settings,
        }
        for name, score in scores.items()
        if name != "clean"
    }
    summary = {**_accuracy("clean_accuracy", clean), "attacks": attacks}
    if attacks:
        summary |= _accuracy(WORST_CASE, worst, WORST_CASE_INTERVAL)
    return {**summary, "examples": len(clean), **about, "versions": versions()}


def versions() -> dict[str, str]:
    """The versions and the device that a figure was measured with."""
    device = jax.devices()[0]
    return {
        "robustjax": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "devices": str(jax.device_count()),
    }


def _accuracy(name: str, correct: np.ndarray, interval: str = "interval_95") -> dict[str, Any]:
    return {
        name: float(correct.mean()),
        interval: wilson_interval(int(correct.sum()), len(correct)),
    }
