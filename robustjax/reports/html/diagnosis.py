"""The section of a report on whether gradients are masked: the verdict, then a figure a check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.diagnosis.findings import (
    BINOMIAL_TEST,
    FALSE_ALARM,
    PASS,
    SUSPICIOUS,
    UNDECIDED,
    UNDECIDED_BELOW,
    Comparison,
)
from robustjax.reports.html.charts import Plot, Track, Tracks, Values, plot
from robustjax.reports.html.elements import Facts, Table, Value
from robustjax.reports.html.values import is_number, render, scalar, title
from robustjax.reports.masking import compared, share_in_words, what_decides

_FROM_BEST_TO_WORST = (PASS, UNDECIDED, SUSPICIOUS)

_MEANING = {
    PASS: "No check speaks for masked gradients: attacks by gradients can be taken at their word "
    "here, as far as this many examples tell.",
    UNDECIDED: "No check is suspicious, and not all of them pass: what is undecided speaks against "
    "the network, and may be chance. More examples decide it.",
    SUSPICIOUS: "Gradients seem to be masked: attacks by gradients may make the network look more "
    "robust than it is. Of its accuracies the lowest is to be quoted, and that with care.",
}

_MOST_COUNTED = 10**9
_DRAWN = ("checks", "curves", "verdict", "suspicious", "undecided", "level")


class CheckFound(NamedTuple):
    """A check as the page shows it.

    Attributes:
      name: of the check.
      verdict: pass, undecided or suspicious.
      rule: in words; "" if the file does not say.
      chart: the share of each comparison, with its interval and what is allowed.
      statistics: the same as a table.
      evidence: further numbers.
    """

    name: str
    verdict: str
    rule: str
    chart: Tracks
    statistics: Table
    evidence: Facts


class Diagnosed(NamedTuple):
    """A diagnosis as the page shows it.

    Attributes:
      verdict: pass, undecided or suspicious.
      headline: which checks speak against the network.
      meaning: what follows for the reader.
      decide: what would decide the undecided checks.
      how: how it is decided.
      checks: the worst first.
      plots: accuracy and loss against the strength of attacks.
      rest: everything else that was recorded.
    """

    verdict: str
    headline: str
    meaning: str
    decide: Sequence[str]
    how: str
    checks: Sequence[CheckFound]
    plots: Sequence[Plot]
    rest: Facts


def diagnosis(content: Any) -> Diagnosed | None:
    """The section of a diagnosis.json; None where it has not the form of one.

    The verdict on a comparison is that of its counts, so that files of earlier versions, which knew
    of pass and suspicious alone, are shown as those of this one.
    """
    checks, level = _checks(content), _number(content, "level")
    examples = _number(content, "examples")
    if checks is None or level is None or examples is None or not examples.is_integer():
        return None
    summary: dict[str, Any] = {
        "checks": [
            {**check, "comparisons": [compared(part, level, int(examples)) for part in parts]}
            for check, parts in checks
        ],
        "examples": int(examples),
    }
    for check in summary["checks"]:
        found = [part["verdict"] for part in check["comparisons"]]
        check["verdict"] = _worst([check.get("verdict"), *found])
    for verdict in (SUSPICIOUS, UNDECIDED):
        summary[verdict] = [
            check["name"] for check in summary["checks"] if check["verdict"] == verdict
        ]
    verdict = _worst([check["verdict"] for check in summary["checks"]])
    ordered = sorted(
        summary["checks"], key=lambda check: -_FROM_BEST_TO_WORST.index(check["verdict"])
    )
    return Diagnosed(
        verdict=verdict,
        headline=_headline(summary),
        meaning=_MEANING[verdict],
        decide=what_decides(summary),
        how=f"{int(examples):,} examples. Each check compares attacks on the same examples by "
        f"exact, one-sided tests. Suspicious: a p-value below {level:.2g}, which is "
        f"{100 * FALSE_ALARM:g} % shared between all comparisons (Bonferroni). Undecided: below "
        f"{UNDECIDED_BELOW:g} by itself. A figure shows from 0 to 100 % the share that speaks "
        "against the network, with its 95 % interval (Wilson), and as a dashed stroke what the "
        "rule allows.",
        checks=[_check(check) for check in ordered],
        plots=_plots(content),
        rest=Facts(
            [
                (title(key), render(key, value))
                for key, value in content.items()
                if key not in _DRAWN
            ]
        ),
    )


def _headline(summary: Mapping[str, Any]) -> str:
    """Which checks speak against the network, and which are left open."""
    every, found, open_ones = len(summary["checks"]), summary[SUSPICIOUS], summary[UNDECIDED]
    said = []
    if found:
        said.append(f"{len(found)} of {every} checks suspicious: {', '.join(found)}")
    if open_ones:
        said.append(f"{len(open_ones)} of {every} undecided: {', '.join(open_ones)}")
    return "; ".join(said) or f"all {every} checks pass"


def _checks(content: Any) -> list[tuple[dict[str, Any], list[Comparison]]] | None:
    """Each check with its comparisons; None where one has another form."""
    checks = content.get("checks") if isinstance(content, Mapping) else None
    if not isinstance(checks, list) or not checks:
        return None
    found = []
    for check in checks:
        if not isinstance(check, Mapping) or not isinstance(check.get("name"), str):
            return None
        parts = check.get("comparisons")
        compared_here = [_comparison(part) for part in parts] if isinstance(parts, list) else []
        known = [part for part in compared_here if part is not None]
        if not known or len(known) < len(compared_here):
            return None
        found.append((dict(check), known))
    return found


def _comparison(part: Any) -> Comparison | None:
    if not isinstance(part, Mapping) or not isinstance(part.get("statement"), str):
        return None
    count, of, allowed = (_number(part, name) for name in ("count", "of", "allowed"))
    if count is None or of is None or allowed is None:
        return None
    whole = count.is_integer() and of.is_integer()
    if not (whole and 0 <= count <= of <= _MOST_COUNTED and 0 < allowed < 1):
        return None
    test = part.get("test")
    named = test if isinstance(test, str) else BINOMIAL_TEST
    return Comparison(part["statement"], int(count), int(of), allowed, named)


def _worst(verdicts: Sequence[Any]) -> str:
    known = [verdict for verdict in verdicts if verdict in _FROM_BEST_TO_WORST]
    return max(known, key=_FROM_BEST_TO_WORST.index, default=PASS)


def _check(check: Mapping[str, Any]) -> CheckFound:
    parts, evidence = check["comparisons"], check.get("evidence")
    rule = check.get("rule")
    return CheckFound(
        name=check["name"],
        verdict=check["verdict"],
        rule=rule if isinstance(rule, str) else "",
        chart=Tracks([("", [_track(part) for part in parts])], compact=False),
        statistics=_statistics(check["name"], parts),
        evidence=Facts(
            [(title(name), _fraction(name, value)) for name, value in evidence.items()]
            if isinstance(evidence, Mapping)
            else []
        ),
    )


def _statistics(name: str, parts: Sequence[Mapping[str, Any]]) -> Table:
    columns = {
        "comparison": [part["statement"] for part in parts],
        "against": [f"{part['count']:,} of {part['of']:,}" for part in parts],
        "share (95 %)": [share_in_words(part) for part in parts],
        "allowed": [f"{100 * part['allowed']:g} %" for part in parts],
        "test": [part["test"] for part in parts],
        "p-value": [f"{part['p_value']:.2g}" for part in parts],
        "verdict": [part["verdict"] for part in parts],
    }
    rows = list(zip(*columns.values(), strict=True))
    return Table(tuple(columns), rows, f"{name}: the tests", (1, 2, 3, 5))


def _track(part: Mapping[str, Any]) -> Track:
    interval = part["interval_95"]
    counted = f"{part['count']:,} of {part['of']:,}"
    return Track(
        label=part["statement"],
        value=f"{counted}, p = {part['p_value']:.2g}" if part["of"] else "no example tells",
        share=None if part["share"] is None else 100 * part["share"],
        interval=None if interval is None else (100 * interval[0], 100 * interval[1]),
        limit=100 * part["allowed"],
        tone=part["verdict"],
    )


def _fraction(name: str, value: Any) -> Value:
    """A number of the evidence: most are fractions of the examples."""
    if is_number(value) and not name.startswith(("median", "mean")) and 0 <= value <= 1:
        return f"{100 * value:.1f} %"
    return render(name, value) if isinstance(value, Mapping | list) else scalar(name, value)


def _plots(content: Mapping[str, Any]) -> list[Plot]:
    """What the curves of the file allow to draw."""
    curves = content.get("curves")
    curves = curves if isinstance(curves, Mapping) else {}
    steps, epsilons = _numbers(curves.get("steps")), _numbers(curves.get("epsilons"))
    clean, attacks = _number(content, "clean_accuracy"), content.get("attacks")
    levels: list[tuple[str, float, bool]] = []
    if clean is not None:
        levels.append(("clean", 100 * clean, False))
    radius = _number(attacks, "epsilon")
    within: list[tuple[str, float, bool]] = []
    if radius is not None and epsilons and 0 < radius <= max(epsilons):
        within.append(("epsilon of the diagnosis", radius, True))
    drawn = [
        _accuracies("More steps", "steps of PGD", steps, curves.get("accuracy"), levels, 1.0),
        _losses(steps, curves.get("loss_quantiles_10_50_90")),
        _accuracies(
            "A larger epsilon",
            "epsilon",
            epsilons,
            curves.get("accuracy_at_epsilon"),
            [*levels, *within],
            radius if within else None,
        ),
    ]
    return [found for found in drawn if found is not None]


def _accuracies(
    name: str,
    against: str,
    places: Sequence[float],
    accuracies: Any,
    levels: Sequence[tuple[str, float, bool]],
    linear_below: float | None,
) -> Plot | None:
    percent = [100 * value for value in _numbers(accuracies)]
    if not places or len(percent) != len(places) or min(places) < 0:
        return None
    return plot(
        name,
        [Values("accuracy under PGD", list(zip(places, percent, strict=True)))],
        x_name=against,
        y_name="accuracy (%)",
        y_range=(0, 100),
        x_ticks=_spread_out(places),
        linear_below=linear_below,
        levels=levels,
    )


def _losses(steps: Sequence[float], quantiles: Any) -> Plot | None:
    rows = [_numbers(row) for row in quantiles] if isinstance(quantiles, list) else []
    if not steps or len(rows) != len(steps) or min(steps) < 0 or any(len(r) != 3 for r in rows):
        return None
    return plot(
        "The loss on the way",
        [
            Values(
                "cross-entropy: median, and 10 to 90 % of the examples",
                [(step, middle) for step, (_, middle, _) in zip(steps, rows, strict=True)],
                [(low, high) for low, _, high in rows],
            )
        ],
        x_name="steps of PGD",
        y_name="cross-entropy",
        x_ticks=_spread_out(steps),
        linear_below=1.0,
    )


def _spread_out(places: Sequence[float]) -> list[float]:
    """First and last, and of those between what is at least three times its predecessor."""
    chosen = [places[0]]
    for place in places[1:-1]:
        if place >= 3 * chosen[-1] and place * 2 <= places[-1]:
            chosen.append(place)
    return [*chosen, places[-1]] if len(places) > 1 else chosen


def _number(content: Any, name: str) -> float | None:
    value = content.get(name) if isinstance(content, Mapping) else None
    return float(value) if is_number(value) else None


def _numbers(values: Any) -> list[float]:
    """The numbers of a list; none where one is something else."""
    if not isinstance(values, list) or not all(map(is_number, values)):
        return []
    return [float(value) for value in values]
