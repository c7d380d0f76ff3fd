"""What a diagnosis of gradient masking found, as diagnosis.json and as text for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustjax.diagnosis.records import Evidence
from robustjax.diagnosis.rules import FALSE_ALARM, Diagnosis
from robustjax.evaluation.suite import wilson_interval


def summarize(diagnosis: Diagnosis, evidence: Evidence, **about: Any) -> dict[str, Any]:
    """The content of diagnosis.json; accuracies are fractions of all examples.

    Args:
      diagnosis: of `judge`.
      evidence: that it judged.
      **about: what else is to be recorded.
    """
    clean = evidence.clean
    return {
        "verdict": "suspicious" if diagnosis.suspicious else "pass",
        "suspicious": list(diagnosis.suspicious),
        "level": diagnosis.level,
        "clean_accuracy": float(clean.mean()),
        "interval_95": wilson_interval(int(clean.sum()), len(clean)),
        "examples": len(clean),
        "checks": [
            {
                "name": check.name,
                "verdict": "suspicious" if check.suspicious else "pass",
                "rule": check.rule,
                "comparisons": [
                    {
                        **part._asdict(),
                        "p_value": part.p_value,
                        "suspicious": part.p_value < diagnosis.level,
                    }
                    for part in check.comparisons
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


def to_markdown(summary: Mapping[str, Any]) -> str:
    """What `summarize` gives, for a person."""
    lines = [
        f"# Gradient masking: {verdict_line(summary)}",
        "",
        f"{summary['examples']} examples, clean accuracy {100 * summary['clean_accuracy']:.2f} %. "
        f"A comparison is suspicious if its p-value is below {summary['level']:.2g}, so that a "
        f"network within all rules is called so with a probability of {100 * FALSE_ALARM:g} % at "
        "most. Counts against a share of 50 % are of examples that exactly one of two attacks "
        "breaks.",
        "",
        "| check | verdict | against the network | allowed | p-value |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for check in summary["checks"]:
        for place, part in enumerate(check["comparisons"]):
            name, verdict = (check["name"], check["verdict"]) if place == 0 else ("", "")
            count = f"{part['count']} of {part['of']}"
            text = f"{part['statement']}: {count}"
            lines.append(
                f"| {name} | {_bold(verdict)} | {_bold(text, part['suspicious'])} | "
                f"{100 * part['allowed']:g} % | {part['p_value']:.2g} |"
            )
    lines += ["", "## The rules, and the numbers behind them", ""]
    for check in summary["checks"]:
        lines.append(f"* {check['name']}. Suspicious if: {check['rule']}")
        shown = ", ".join(
            f"{name.replace('_', ' ')} {_number(name, value)}"
            for name, value in check["evidence"].items()
        )
        if shown:
            lines.append(f"  Here: {shown}.")
    about_all = ("verdict", "suspicious", "level", "clean_accuracy", "interval_95", "examples")
    rest = (*about_all, "checks", "curves")
    lines += ["", *(f"* {key}: {_plain(v)}" for key, v in summary.items() if key not in rest)]
    return "\n".join(lines) + "\n"


def verdict_line(summary: Mapping[str, Any]) -> str:
    """The verdict in a line."""
    count = len(summary["checks"])
    if not summary["suspicious"]:
        open_ones = _undecided(summary)
        rest = f"; too few examples to decide: {'; '.join(open_ones)}" if open_ones else ""
        return f"pass ({count} checks{rest})"
    found = ", ".join(summary["suspicious"])
    return f"suspicious ({len(summary['suspicious'])} of {count} checks: {found})"


def _undecided(summary: Mapping[str, Any]) -> list[str]:
    """Checks that one comparison alone would call suspicious, and all comparisons together not."""
    return [
        check["name"]
        for check in summary["checks"]
        if check["verdict"] == "pass"
        and any(part["p_value"] < FALSE_ALARM for part in check["comparisons"])
    ]


def _bold(text: str, when: bool | None = None) -> str:
    return f"**{text}**" if (text == "suspicious" if when is None else when) else text


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
