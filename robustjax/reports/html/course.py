"""The section of a report on how a run was trained."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.reports.html.charts import Plot, Values, plot
from robustjax.reports.html.elements import Commands, Facts, Table
from robustjax.reports.html.values import duration, is_number, known, title
from robustjax.reports.repeat_commands import resume_command
from robustjax.runs.checkpoint import METRIC
from robustjax.runs.folder import RunFolder
from robustjax.runs.log import format_seconds
from robustjax.text import parse_number

_LOGGED = {
    "epoch": "epoch",
    "loss": "loss",
    "train_clean_accuracy": "train, clean (%)",
    "train_robust_accuracy": "train, robust (%)",
    "holdout_clean_accuracy": "hold-out, clean (%)",
    "holdout_robust_accuracy": "hold-out, robust (%)",
    "learning_rate": "learning rate",
    "mean_backward_passes": "backward passes per image",
    "images_per_second": "images/s",
    "elapsed_seconds": "time since the start",
}

_CURVES = {
    "holdout_clean_accuracy": "hold-out, clean",
    "holdout_robust_accuracy": "hold-out, robust",
    "train_clean_accuracy": "training examples, clean",
    "train_robust_accuracy": "training examples, robust",
}


def training(run: RunFolder) -> dict[str, Any]:
    """The facts of training, its curves, and the log; or how it goes on."""
    rows, resume = run.rows, Commands(resume_command(run))
    if run.origin is not None:
        return {"elsewhere": True}
    if not rows:
        return {"elsewhere": False, "log": None, "resume": resume}
    last = rows[-1]
    planned = run.flags.get("epochs")
    epochs = f"{last['epoch']}" + (f" of {planned}" if planned else "")
    rates = _numbers(rows, "images_per_second")
    passes = _numbers(rows, "mean_backward_passes")
    steps = last.get("step")
    pairs = known(
        ("epochs", epochs),
        ("steps", f"{steps:,}" if isinstance(steps, int) else None),
        ("time", duration(last.get("elapsed_seconds"))),
        ("images per second", f"{statistics.median(rates):,.0f}, the median" if rates else None),
        (
            "backward passes per image",
            f"{statistics.mean(passes):.4g}, the mean over the epochs" if passes else None,
        ),
        ("last epoch", _of_row(last)),
        *_best(run),
    )
    return {
        "elsewhere": False,
        "resume": resume,
        "unfinished": _is_above(planned, last["epoch"]),
        "facts": Facts(pairs),
        "curves": _curves(run),
        "log": _log(rows),
    }


def _is_above(planned: str | None, epoch: Any) -> bool:
    try:
        return is_number(epoch) and epoch < parse_number(planned or "")
    except (OverflowError, ValueError):
        return False


def _curves(run: RunFolder) -> list[Plot]:
    """The curves; none where the log lacks figures that they are drawn from."""
    if not all(_can_be_drawn(row) for row in run.rows):
        return []
    lines = [
        Values(label, _points(run.rows, key, 100))
        for key, label in _CURVES.items()
        if all(row[key] is not None for row in run.rows)
    ]
    drawn = [
        plot("Accuracy", lines, x_name="epoch", y_name="accuracy (%)", y_range=(0, 100)),
        plot(
            "Training loss",
            [Values("loss", _points(run.rows, "loss", 1))],
            x_name="epoch",
            y_name="loss",
        ),
    ]
    return [chart for chart in drawn if chart is not None]


def _points(
    rows: Sequence[Mapping[str, Any]], key: str, scale: int
) -> list[tuple[float, float | None]]:
    return [(row["epoch"], scale * row[key] if is_number(row[key]) else None) for row in rows]


def _can_be_drawn(row: Mapping[str, Any]) -> bool:
    accuracies = [key for key in _LOGGED if key.endswith("accuracy")]
    return (
        all(key in row and (row[key] is None or is_number(row[key])) for key in accuracies)
        and is_number(row["epoch"])
        # A loss that is not finite is a gap in its curve.
        and isinstance(row.get("loss"), int | float)
    )


def _log(rows: Sequence[Mapping[str, Any]]) -> Table:
    every = dict.fromkeys([*_LOGGED, *(key for row in rows for key in row)])
    keys = [key for key in every if any(row.get(key) is not None for row in rows)]
    cells = [[_logged(key, row.get(key)) for key in keys] for row in rows]
    head = [_LOGGED.get(key) or title(key) for key in keys]
    return Table(head, cells, "The log, epoch by epoch", range(1, len(head)))


def _logged(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if not is_number(value):
        return str(value)
    if key.endswith("accuracy"):
        return f"{100 * value:.2f}"
    if key == "elapsed_seconds":
        return format_seconds(value)
    return f"{value:,.0f}" if key == "images_per_second" else f"{value:.5g}"


def _of_row(row: Mapping[str, Any]) -> str:
    parts = [f"loss {row['loss']:.4g}"] if is_number(row.get("loss")) else []
    for part, label in (("train", "training examples"), ("holdout", "hold-out")):
        clean: Any = row.get(f"{part}_clean_accuracy")
        robust: Any = row.get(f"{part}_robust_accuracy")
        if is_number(clean) and is_number(robust):
            parts.append(f"{label} {100 * clean:.2f} % clean, {100 * robust:.2f} % robust")
    return "; ".join(parts)


def _best(run: RunFolder) -> list[tuple[str, str]]:
    """The best checkpoint, and the highest epoch of the log where that is another one."""
    step = run.best_step
    measured = [row for row in run.rows if is_number(row.get(METRIC))]
    highest = max(measured, key=lambda row: row[METRIC], default=None)
    saved = next((row for row in measured if step is not None and row.get("step") == step), None)
    found = []
    if saved is not None:
        what = f"epoch {saved['epoch']} (step {step:,}), {_robust(saved)} on the hold-out"
        found.append(("best checkpoint", what))
        beyond = "; there is no checkpoint of it"
    elif step is not None:
        found.append(("best checkpoint", f"step {step:,}, which is not in the log"))
        beyond = ""
    else:
        beyond = "; no checkpoint that was measured can be read here"
    if highest is not None and (saved is None or highest[METRIC] > saved[METRIC]):
        what = f"epoch {highest['epoch']}, {_robust(highest)}{beyond}"
        found.append(("highest on the hold-out", what))
    return found


def _robust(row: Mapping[str, Any]) -> str:
    return f"{100 * row[METRIC]:.2f} % robust"


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if is_number(row.get(key))]
