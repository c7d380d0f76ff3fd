"""The accuracies that an evaluation.json records, and which of several runs' are really better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from robustjax.text import format_value

CLEAN, WORST = "clean", "worst case"
WORST_SHARED = "worst case on shared examples"
NO_ATTACKS = (CLEAN, WORST, WORST_SHARED)

_WORST_KEYS = ("worst_case_robust_accuracy", "worst_case_interval_95")
_OF_A_SCORE = ("robust_accuracy", "interval_95", "warnings")
_OTHERS = "others"
_COMMANDS = "commands"
_NOT_FACTS = (
    "clean_accuracy", "interval_95", "attacks", "warnings", "curves", _COMMANDS, _OTHERS,
    "per_class", "paired", "worst_case_on_shared_examples", *_WORST_KEYS,
)  # fmt: skip


_EXACT = 1e15
"""Whole numbers below this are written in full."""


class Score(NamedTuple):
    """An accuracy as it was recorded.

    Attributes:
      name: the attack's, or `CLEAN`, or `WORST`.
      accuracy: in [0, 1]; None if there is none in the record.
      interval: the 95 % interval, in [0, 1]; None if there is none in the record.
      settings: of the attack, by name; single values.
      details: what else the attack recorded, by name: mappings and lists.
      warnings: of the attack.
    """

    name: str
    accuracy: float | None
    interval: tuple[float, float] | None
    settings: Mapping[str, Any] = {}
    details: Mapping[str, Any] = {}
    warnings: tuple[str, ...] = ()

    def percent(self) -> str:
        """The accuracy in per cent, without the sign."""
        return "–" if self.accuracy is None else f"{100 * self.accuracy:.2f}"

    def percent_interval(self) -> str:
        """The interval in per cent, without the sign."""
        if self.interval is None:
            return "–"
        low, high = self.interval
        return f"{100 * low:.2f} to {100 * high:.2f}"


def recorded_scores(evaluation: Mapping[str, Any] | None) -> list[Score]:
    """The scores of an evaluation.json: clean, the attacks in their order, the worst case."""
    if evaluation is None:
        return []
    scores = [_score(CLEAN, evaluation, "clean_accuracy", "interval_95")]
    for name, entry in _mapping(evaluation.get("attacks")).items():
        entry = _mapping(entry)
        own = {key: value for key, value in entry.items() if key not in _OF_A_SCORE}
        plain = {key: value for key, value in own.items() if not isinstance(value, dict | list)}
        scores.append(
            _score(name, entry, "robust_accuracy", "interval_95")._replace(
                settings=plain,
                details={key: value for key, value in own.items() if key not in plain},
                warnings=_texts(entry.get("warnings")),
            )
        )
    if _WORST_KEYS[0] in evaluation:
        scores.append(_score(WORST, evaluation, *_WORST_KEYS))
    shared = evaluation.get("worst_case_on_shared_examples")
    if isinstance(shared, Mapping):
        found = _score(WORST_SHARED, shared, "robust_accuracy", "interval_95")
        scores.append(found._replace(settings={"examples": shared.get("examples")}))
    return scores


def recorded_others(evaluation: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """What an evaluation.json has of other data, in other balls, or at other checkpoints.

    Returns:
      A title and the content for each, in the form of the whole.
    """
    found = []
    others = _mapping(evaluation).get(_OTHERS)
    for other in others if isinstance(others, list) else ():
        content = _mapping(other)
        named = {name: content[name] for name in ("norm", "epsilon") if content.get(name)}
        checkpoint = _mapping(content.get("checkpoint")).get("kind")
        parts = [describe_settings(named), content.get("dataset"), checkpoint]
        found.append((", ".join(str(part) for part in parts if part), content))
    return found


def recorded_facts(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an evaluation.json says beside the scores."""
    facts = _mapping(evaluation)
    return {key: value for key, value in facts.items() if key not in _NOT_FACTS}


def recorded_warnings(evaluation: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """All warnings, each with the attack it is of; "" for those of the whole evaluation."""
    whole = [("", text) for text in _texts(_mapping(evaluation).get("warnings"))]
    scores = recorded_scores(evaluation)
    return whole + [(score.name, text) for score in scores for text in score.warnings]


def recorded_commands(evaluation: Mapping[str, Any] | None) -> list[str]:
    """The commands that made an evaluation.json, each once; none in files that do not say it."""
    parts = [_mapping(evaluation), *(content for _, content in recorded_others(evaluation))]
    return list(dict.fromkeys(text for part in parts for text in _texts(part.get(_COMMANDS))))


def common_settings(scores: Sequence[Score]) -> dict[str, Any]:
    """The settings that all attacks share, if there are at least two attacks."""
    attacks = [score for score in scores if score.name not in NO_ATTACKS]
    if len(attacks) < 2:
        return {}
    return {
        key: value
        for key, value in attacks[0].settings.items()
        if all(key in score.settings and score.settings[key] == value for score in attacks)
    }


def about(score: Score, scores: Sequence[Score]) -> str:
    """What stands beside a score in a table of them: the settings that not all attacks share."""
    if score.name == CLEAN:
        return "no attack"
    if score.name == WORST_SHARED:
        count = format_setting(score.settings.get("examples"))
        return f"correct under every attack above, on the first {count} examples, which all had"
    if score.name == WORST:
        partial = any("examples" in other.settings for other in scores)
        return f"correct under every attack above{' that had all examples' if partial else ''}"
    return describe_settings(score.settings, common_settings(scores)) or "as above"


def describe_settings(settings: Mapping[str, Any], without: Mapping[str, Any] = {}) -> str:
    """Settings as one line: "steps 20, step size 2/255"."""
    return ", ".join(
        f"{key.replace('_', ' ')} {format_setting(value)}"
        for key, value in settings.items()
        if key not in without
    )


def format_setting(value: Any) -> str:
    """A single value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and abs(value) < _EXACT:
        text = format_value(value)
        return text if len(text) <= 8 else f"{value:.6g}"
    return "none" if value is None else str(value)


class Lead(NamedTuple):
    """Who is best in one column of a comparison.

    Attributes:
      leaders: positions; one if a run is better than all others by more than the intervals, more if
        their intervals meet that of the highest, none if nothing can be said.
      why_none: why nothing can be said; "" if something can, or there is nothing to compare.
    """

    leaders: frozenset[int]
    why_none: str = ""


def lead(scores: Sequence[Score | None]) -> Lead:
    """Compares one attack's scores over runs.

    Args:
      scores: one for each run; None for runs that have none.
    """
    there = {
        position: score
        for position, score in enumerate(scores)
        if score is not None and score.accuracy is not None
    }
    if len(there) < 2:
        return Lead(frozenset())
    different = _differing_settings([score.settings for score in there.values()])
    if different:
        return Lead(frozenset(), f"not compared, the settings differ: {', '.join(different)}")
    with_interval = [
        (position, score.accuracy, *score.interval)
        for position, score in there.items()
        if score.accuracy is not None and score.interval is not None
    ]
    if len(with_interval) < len(there):
        return Lead(frozenset(), "not compared, an interval is missing")
    _, _, lowest, _ = max(with_interval, key=lambda known: known[1])
    reached = frozenset(position for position, _, _, high in with_interval if high >= lowest)
    if len(reached) == len(there):
        return Lead(frozenset(), "no difference larger than the intervals")
    return Lead(reached)


def _differing_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for found in settings for name in found)
    missing = object()
    return [
        f"{name.replace('_', ' ')} "
        + " / ".join(dict.fromkeys(format_setting(found.get(name)) for found in settings))
        for name in names
        # How many examples were attacked changes the interval, not what is measured.
        if name != "examples"
        and any(found.get(name, missing) != settings[0].get(name, missing) for found in settings)
    ]


def read_interval(bounds: Any) -> tuple[float, float] | None:
    """An interval as it was recorded; None if it makes no sense."""
    whole = isinstance(bounds, list | tuple) and len(bounds) == 2 and all(map(_is_fraction, bounds))
    return (float(bounds[0]), float(bounds[1])) if whole else None


def _score(name: str, entry: Mapping[str, Any], accuracy: str, interval: str) -> Score:
    value = entry.get(accuracy)
    return Score(
        name, float(value) if _is_fraction(value) else None, read_interval(entry.get(interval))
    )


def _is_fraction(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
