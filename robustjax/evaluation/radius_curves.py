"""Robust accuracy over the radius of the ball, from the verdicts that were recorded at several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from robustjax.evaluation.verdicts import wilson_interval
from robustjax.runs.evaluations import CLEAN, Record, best_of_each, is_same


class RadiusCurve(NamedTuple):
    """One attack at several radii, the clean accuracy among them as that of radius 0.

    Attributes:
      attack: its name.
      norm: of the balls.
      settings: what else sets it apart from another curve of the same attack, JSON.
      epsilons: the radii, ascending, 0 first.
      withstood: bool [radii, examples]; nested: what fell at a smaller radius counts as fallen at a
        larger one, since the image that broke it lies in the larger ball too. So accuracy never
        rises with the radius.
    """

    attack: str
    norm: str
    settings: dict[str, Any]
    epsilons: tuple[float, ...]
    withstood: np.ndarray

    @property
    def fallen_at(self) -> np.ndarray:
        """float64 [examples], the smallest radius at which each fell; infinity: at none."""
        first = np.argmin(self.withstood, axis=0)
        fell = ~self.withstood[-1]
        return np.where(fell, np.asarray(self.epsilons)[first], np.inf)

    def to_json(self) -> dict[str, Any]:
        """What evaluation.json says of it."""
        total = self.withstood.shape[1]
        counts = [int(row.sum()) for row in self.withstood]
        return {
            "attack": self.attack,
            "norm": self.norm,
            **self.settings,
            "examples": total,
            "epsilons": list(self.epsilons),
            "robust_accuracy": [count / total for count in counts],
            "interval_95": [list(wilson_interval(count, total)) for count in counts],
        }


def radius_curves(records: Sequence[Record]) -> list[RadiusCurve]:
    """The curves that records make up: of each attack that was run at two radii or more.

    Records belong to one curve that were asked for alike, but for the radius: by the same name,
    with the same step size, start and success where the name does not say them (a step size that
    follows the radius may do so), with the same seed and on as many examples. What is not known, as
    of records of earlier versions, is in no curve.

    Args:
      records: of one subject, in the order in which they were made.
    """
    best = best_of_each(records)
    clean = next((record for record in best if record.attack == CLEAN), None)
    if clean is None or clean.correct is None:
        return []
    groups: dict[str, list[Record]] = {}
    for record in best:
        asked = record.about.get("asked")
        if record.attack == CLEAN or record.correct is None or asked is None:
            continue
        if record.settings.get("epsilon") and record.examples <= clean.examples:
            same = [
                record.attack, record.settings.get("norm"), record.examples, asked,
                record.about.get("seed"),
            ]  # fmt: skip
            groups.setdefault(json.dumps(same, sort_keys=True), []).append(record)
    return [
        _curve(clean.correct, list(by_radius.values()))
        for by_radius in map(_by_radius, groups.values())
        if len(by_radius) > 1
    ]


def _by_radius(records: Sequence[Record]) -> dict[float, Record]:
    """The newest record of each radius, ascending."""
    found: dict[float, Record] = {}
    for record in records:
        epsilon = record.settings["epsilon"]
        known = next((other for other in found if is_same(other, epsilon)), epsilon)
        found[known] = record
    return dict(sorted(found.items()))


def _curve(clean: np.ndarray, records: Sequence[Record]) -> RadiusCurve:
    first = records[0]
    verdicts = [clean[: first.examples], *(record.correct for record in records)]
    asked = {key: value for key, value in first.about["asked"].items() if value is not None}
    return RadiusCurve(
        first.attack,
        first.settings["norm"],
        {**asked, "seed": first.about.get("seed")},
        (0.0, *(float(record.settings["epsilon"]) for record in records)),
        np.logical_and.accumulate(np.array(verdicts, bool), axis=0),
    )
