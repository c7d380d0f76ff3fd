"""The curves of robust accuracy over the radius that an evaluation.json records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.arguments import is_finite, is_number
from robustjax.reports.recorded_scores import Score, format_setting, read_interval
from robustjax.runs.evaluations import is_fraction

CURVES = "curves"

_NOT_SETTINGS = ("attack", "epsilons", "robust_accuracy", "interval_95")

NESTED = (
    "An example that fell at a smaller radius counts as fallen at a larger one, which holds the "
    "image that broke it."
)
"""What a table or figure of curves says below it."""


class Curve(NamedTuple):
    """One attack at several radii.

    Attributes:
      name: the attack's, with what sets the curve apart from others of the same attack.
      norm: of the balls.
      examples: how many were attacked, as text.
      scores: radius -> what was found there; 0: clean.
    """

    name: str
    norm: str
    examples: str
    scores: Mapping[float, Score]


def recorded_curves(evaluation: Mapping[str, Any] | None) -> list[Curve]:
    """The curves of an evaluation.json, in their order; what makes no sense is left out."""
    recorded: Any = (evaluation or {}).get(CURVES)
    entries = [entry for entry in recorded if _is_curve(entry)] if _is_list(recorded) else []
    return [
        Curve(
            name,
            str(entry.get("norm", "")),
            format_setting(entry.get("examples")),
            {
                float(epsilon): Score(name, float(accuracy), read_interval(interval))
                for epsilon, accuracy, interval in zip(
                    entry["epsilons"], entry["robust_accuracy"], entry["interval_95"], strict=True
                )
            },
        )
        for name, entry in zip(_names(entries), entries, strict=True)
    ]


def radii_of(curves: Sequence[Curve]) -> list[float]:
    """All radii of some curves, ascending."""
    return sorted({epsilon for curve in curves for epsilon in curve.scores})


def _names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    names = []
    for entry in entries:
        alike = [other for other in entries if other["attack"] == entry["attack"]]
        different = [
            f"{key}={format_setting(value)}"
            for key, value in entry.items()
            if key not in _NOT_SETTINGS and any(other.get(key) != value for other in alike)
        ]
        names.append(entry["attack"] + (f" ({', '.join(different)})" if different else ""))
    return names


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_curve(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("attack"), str):
        return False
    parts: list[Any] = [entry.get(name) for name in ("epsilons", "robust_accuracy", "interval_95")]
    if not all(map(_is_list, parts)) or len({len(part) for part in parts}) != 1 or not parts[0]:
        return False
    epsilons, accuracies, _ = parts
    distances = all(is_number(value) and is_finite(value) and value >= 0 for value in epsilons)
    return distances and all(map(is_fraction, accuracies))
