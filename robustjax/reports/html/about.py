"""The section of a report on what a run is, and how it is made again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustjax import methods
from robustjax.reports.html.elements import Code, Commands, Facts, Value
from robustjax.reports.html.values import duration, known, render, title
from robustjax.reports.recorded_scores import (
    describe_settings,
    format_setting,
    recorded_commands,
    recorded_facts,
)
from robustjax.reports.repeat_commands import training_command
from robustjax.runs.folder import RunFolder

_SHOWN_ELSEWHERE = (
    "checkpoint",
    "method",
    "model",
    "dataset",
    "precision",
    "seed",
    "versions",
    "examples",
    "available_examples",
    "elapsed_seconds",
    "protocol",
)


def identity(run: RunFolder) -> Facts:
    """Method, network, data, threat model, checkpoint, seeds, versions, device and commands."""
    flags, recorded = run.flags, recorded_facts(run.evaluation)
    pairs: list[tuple[str, Value]] = [("folder", Code(run.workdir))]
    method = flags.get("method") or recorded.get("method")
    origin = run.origin if isinstance(run.origin, Mapping) else {}
    if origin:
        pairs += known(
            ("weights", f"{origin.get('file')}, trained elsewhere"),
            ("layout of the weights", origin.get("layout")),
            ("SHA-256 of the file", origin.get("sha256")),
        )
    elif method:
        about = methods.summary(method) if method in methods.names() else ""
        pairs.append(("method", f"{method}: {about}" if about else str(method)))
    own = methods.hyperparameters(method) if method in methods.names() else {}
    given = {name: flags[name] for name in own if flags.get(name)}
    if given:
        text = ", ".join(f"{title(name)} {value}" for name, value in given.items())
        pairs.append(("its hyper-parameters", text))
    pairs += known(
        ("network", flags.get("model") or recorded.get("model")),
        ("data set", recorded.get("dataset") or flags.get("dataset")),
        ("threat model" if origin else "threat model of training", _threat(flags)),
        ("precision", flags.get("precision") or recorded.get("precision")),
        ("checkpoint evaluated", _checkpoint(recorded.get("checkpoint"))),
        ("protocol", recorded.get("protocol")),
        ("seed of training", None if origin else flags.get("seed")),
        ("seed of the attacks", recorded.get("seed")),
        ("time of the evaluation", duration(recorded.get("elapsed_seconds"))),
    )
    versions = recorded.get("versions")
    if isinstance(versions, Mapping):
        software = {key: value for key, value in versions.items() if not key.startswith("device")}
        text = ", ".join(f"{key} {format_setting(value)}" for key, value in software.items())
        device = format_setting(versions.get("device", "not recorded"))
        count = versions.get("devices")
        more = f" ({count} devices)" if count not in (None, "1", 1) else ""
        pairs += known(("evaluated with", text), ("evaluated on", device + more))
    elif run.evaluation is not None:
        pairs.append(("evaluated with", "not recorded"))
    pairs += [
        (title(key), render(key, value))
        for key, value in recorded.items()
        if key not in _SHOWN_ELSEWHERE
    ]
    if origin:
        pairs.append(("imported by", Commands(str(origin.get("command")))))
    else:
        pairs.append(("training again", Commands(training_command(run))))
    if run.evaluation is not None:
        commands = "\n".join(recorded_commands(run.evaluation))
        pairs.append(("evaluated by", Commands(commands) if commands else "not recorded"))
    return Facts(pairs)


def _threat(flags: Mapping[str, str]) -> str | None:
    if not flags.get("epsilon"):
        return None
    text = f"{flags.get('norm', '')} ball of radius {flags['epsilon']}".strip()
    if flags.get("steps"):
        text += f", {flags['steps']} steps"
        text += f" of {flags['step_size']}" if flags.get("step_size") else ""
    measured = flags.get("measure_epsilon")
    return text + (f"; measured at {measured}" if measured else "")


def _checkpoint(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else format_setting(value)
    kind = value.get("kind", "")
    rest = describe_settings(value, without={"kind": kind})
    return ", ".join(part for part in (format_setting(kind), rest) if part)
