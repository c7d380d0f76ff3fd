"""The page of a sweep: its settings side by side, and accuracy against the swept value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.reports.figures.sweep import lines_of, swept_axis
from robustjax.reports.html.charts import Plot, Track, Tracks, Values, plot
from robustjax.reports.html.elements import Code, Commands, Facts, Table, Value
from robustjax.reports.sweep import WORST, facts_of, table_of
from robustjax.runs.evaluations import CLEAN
from robustjax.text import parse_number

_TWO_DECADES = 100

Settings = Sequence[Mapping[str, Any]]


def sweep(settings: Settings, about: Mapping[str, Any]) -> dict[str, Any]:
    """What templates/sweep.html draws.

    Args:
      settings: of `reports.sweep.gather`.
      about: the "command" and the "center", and where they are known "flags" and "total_seconds".
    """
    centre, flags = about["center"], about.get("flags")
    head, rows = table_of(settings)
    failed = [pair for entry in settings for pair in entry["failed"].items()]
    done = sum(len(entry["seeds"]) for entry in settings)
    facts: list[tuple[str, Value]] = [
        (name, text) for name, text in facts_of(settings, about).items()
    ]
    return {
        "tiles": [
            ("settings", str(len(settings)), ""),
            ("runs that are done", str(done), f"{len(failed)} failed" if failed else ""),
            ("centre over the seeds", centre, ""),
        ],
        "table": Table(
            head,
            rows,
            f"Accuracy in per cent: {centre} ± sample standard deviation over the seeds. Worst "
            "case: correct under every attack. Backward passes are those per image, in the mean "
            "over the epochs; seconds of training are with compilation and measuring.",
            range(1, len(head)),
        ),
        "plots": _plots(settings),
        "chart": Tracks(
            [(attack, _tracks(settings, attack)) for attack in _attacks(settings)],
            caption="Accuracy from 0 to 100 %; the line reaches one sample standard deviation over "
            "the seeds to either side.",
        ),
        "failed": [f"{name}: {error}" for name, error in failed],
        "command": Commands(str(about["command"])),
        "facts": Facts(facts),
        "flags": [Code(str(flag)) for flag in flags] if isinstance(flags, list) else [],
    }


def _attacks(settings: Settings) -> list[str]:
    return list(dict.fromkeys(attack for entry in settings for attack in entry["accuracy"]))


def _tracks(settings: Settings, attack: str) -> list[Track]:
    found = []
    for entry in settings:
        if attack not in entry["accuracy"]:
            continue
        accuracy, several = entry["accuracy"][attack], len(entry["seeds"]) > 1
        centre, deviation = 100 * accuracy["centre"], 100 * accuracy["deviation"]
        reached = (max(centre - deviation, 0), min(centre + deviation, 100))
        found.append(
            Track(
                label=entry["name"],
                value=f"{centre:.2f} ± {deviation:.2f} %" if several else f"{centre:.2f} %",
                share=centre,
                interval=reached if several else None,
                tone={CLEAN: "clean", WORST: "worst"}.get(attack, "attack"),
            )
        )
    return found


def _plots(settings: Settings) -> list[Plot]:
    """Accuracy against the first swept number, a chart an attack; none without such a number."""
    found = [entry for entry in settings if entry["accuracy"]]
    flag = swept_axis(found) if found else None
    if flag is None:
        return []
    charts = []
    for attack in _attacks(found):
        lines, everywhere = [], []
        for name, entries in lines_of("sweep", found, flag).items():
            points = sorted(
                (
                    parse_number(entry["values"][flag]),
                    entry["accuracy"][attack]["centre"],
                    entry["accuracy"][attack]["deviation"],
                )
                for entry in entries
                if attack in entry["accuracy"]
            )
            everywhere += [value for value, _, _ in points]
            lines.append(
                Values(
                    name or attack,
                    [(value, 100 * centre) for value, centre, _ in points],
                    [(100 * (centre - off), 100 * (centre + off)) for _, centre, off in points],
                )
            )
        positive = [value for value in everywhere if value > 0]
        wide = positive and min(everywhere) >= 0 and max(positive) > _TWO_DECADES * min(positive)
        charts.append(
            plot(
                attack,
                lines,
                x_name=flag,
                y_name="accuracy (%)",
                linear_below=min(positive) if wide else None,
            )
        )
    return [chart for chart in charts if chart is not None]
