"""What a diagnosis of gradient masking found, as diagnosis.json and as text for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustjax.diagnosis.findings import (
    FALSE_ALARM,
    PASS,
    SUSPICIOUS,
    UNDECIDED,
    UNDECIDED_BELOW,
    Comparison,
    Diagnosis,
)
from robustjax.diagnosis.records import Evidence
from robustjax.evaluation.verdicts import wilson_interval

_SAID = (
    "verdict", "suspicious", "undecided", "level", "clean_accuracy", "interval_95", "examples",
    "checks", "curves",
)  # fmt: skip
"""What the text says in its own words."""


def summarize(diagnosis: Diagnosis, evidence: Evidence, **about: Any) -> dict[str, Any]:
    """The content of diagnosis.json; accuracies are fractions of all examples.

    Args:
      diagnosis: of `judge`.
      evidence: that it judged.
      **about: what else is to be recorded.
    """
    clean = evidence.clean
    return {
        "verdict": diagnosis.verdict,
        "suspicious": list(diagnosis.suspicious),
        "undecided": list(diagnosis.undecided),
        "level": diagnosis.level,
        "clean_accuracy": float(clean.mean()),
        "interval_95": wilson_interval(int(clean.sum()), len(clean)),
        "examples": len(clean),
        "checks": [
            {
                "name": check.name,
                "verdict": check.verdict,
                "rule": check.rule,
                "comparisons": [
                    compared(part, diagnosis.level, len(clean)) for part in check.comparisons
                ],
                "evidence": check.evidence,
            }
            for check in diagnosis.checks
        ],
        "curves": _curves(evidence),
        **about,
    }


def _curves(evidence: Evidence) -> dict[str, Any]:
    """Accuracy and loss against steps; the loss is of what is classified correctly clean."""
    quantiles: Sequence[Any] = ()
    if evidence.clean.any():
        quantiles = np.nanquantile(evidence.loss, (0.1, 0.5, 0.9), axis=0).T.tolist()
    return {
        "steps": list(evidence.steps),
        "accuracy": evidence.after_steps.mean(axis=0).tolist(),
        "loss_quantiles_10_50_90": list(quantiles),
        "epsilons": list(evidence.epsilons),
        "accuracy_at_epsilon": evidence.at_epsilon.mean(axis=0).tolist(),
    }


def compared(part: Comparison, level: float, examples: int) -> dict[str, Any]:
    """A comparison with its statistics; where it is undecided, how many examples decide it."""
    verdict, factor = part.verdict(level), part.deciding_factor(level)
    return {
        **part._asdict(),
        "share": part.count / part.of if part.of else None,
        "interval_95": wilson_interval(part.count, part.of) if part.of else None,
        "p_value": part.p_value,
        "verdict": verdict,
        "suspicious": verdict == SUSPICIOUS,
        "deciding_examples": (
            math.ceil(factor * examples) if verdict == UNDECIDED and factor is not None else None
        ),
    }


def to_markdown(summary: Mapping[str, Any]) -> str:
    """What `summarize` gives, for a person."""
    lines = [
        f"# Gradient masking: {verdict_line(summary)}",
        "",
        f"{summary['examples']} examples, clean accuracy {100 * summary['clean_accuracy']:.2f} %. "
        f"A comparison is suspicious if its p-value is below {summary['level']:.2g}, so that a "
        f"network within all rules is called so with a probability of {100 * FALSE_ALARM:g} % at "
        f"most (Bonferroni), and undecided if it is below {UNDECIDED_BELOW:g} by itself. All tests "
        "are exact and one-sided; the sign test is of the examples that exactly one of two attacks "
        "breaks. Intervals are of 95 % (Wilson).",
        "",
        "| check | verdict | against the network | share (95 %) | allowed | test | p-value |",
        "| --- | --- | --- | ---: | ---: | --- | ---: |",
    ]
    for check in summary["checks"]:
        for place, part in enumerate(check["comparisons"]):
            name, verdict = (check["name"], check["verdict"]) if place == 0 else ("", "")
            count = f"{part['count']} of {part['of']}"
            text = f"{part['statement']}: {count}"
            lines.append(
                f"| {name} | {_bold(verdict, verdict)} | {_bold(text, part['verdict'])} | "
                f"{share_in_words(part)} | {100 * part['allowed']:g} % | {part['test']} | "
                f"{part['p_value']:.2g} |"
            )
    decide = what_decides(summary)
    lines += ["", *(f"* {text}" for text in decide)] if decide else []
    lines += ["", "## The rules, and the numbers behind them", ""]
    for check in summary["checks"]:
        lines.append(f"* {check['name']}. Suspicious if: {check['rule']}")
        shown = ", ".join(
            f"{name.replace('_', ' ')} {_number(name, value)}"
            for name, value in check["evidence"].items()
        )
        if shown:
            lines.append(f"  Here: {shown}.")
    about_all = (
        "verdict",
        "suspicious",
        "undecided",
        "level",
        "clean_accuracy",
        "interval_95",
        "examples",
    )
    rest = (*about_all, "checks", "curves")
    lines += ["", *(f"* {key}: {_plain(v)}" for key, v in summary.items() if key not in rest)]
    return "\n".join(lines) + "\n"


def verdict_line(summary: Mapping[str, Any]) -> str:
    """The verdict in a line."""
    count, verdict = len(summary["checks"]), summary["verdict"]
    if verdict == PASS:
        return f"{PASS} ({count} checks)"
    found, left_open = summary["suspicious"], summary["undecided"]
    parts = [f"{len(found)} of {count} checks: {', '.join(found)}"] if found else []
    if left_open:
        parts.append(f"too few examples to decide: {', '.join(left_open)}")
    return f"{verdict} ({'; '.join(parts)})"


def what_decides(summary: Mapping[str, Any]) -> list[str]:
    """For each undecided check, how many examples would decide it if its share stays what it is."""
    found = []
    for check in summary["checks"]:
        numbers = [part["deciding_examples"] for part in check["comparisons"]]
        enough = min((number for number in numbers if number), default=None)
        if check["verdict"] == UNDECIDED and enough:
            found.append(
                f"{check['name']}: about {enough:,} examples decide it if the share stays what it "
                f"is here, of {summary['examples']:,}"
            )
    return found


def share_in_words(part: Mapping[str, Any]) -> str:
    """The share of a comparison with its interval, in per cent."""
    if part["share"] is None:
        return "none"
    low, high = part["interval_95"]
    return f"{100 * part['share']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _bold(text: str, verdict: str) -> str:
    return f"**{text}**" if verdict in (SUSPICIOUS, UNDECIDED) else text


def _number(name: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "none"
    if name.startswith(("median", "mean")):
        return f"{value:.3g}"
    return f"{100 * value:.1f} %"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return str(value)
