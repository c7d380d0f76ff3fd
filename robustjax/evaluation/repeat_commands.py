"""The commands that make again what the files of a run say."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.evaluation.recorded_scores import (
    CLEAN,
    WORST,
    Score,
    format_setting,
    recorded_facts,
    recorded_scores,
)
from robustjax.evaluation.run_folder import FLAGS, RunFolder

_CHOSEN = ("step_size", "start", "success")
"""Settings that the command line chooses for all attacks by steps at once."""


def training_command(run: RunFolder) -> str:
    """Trains the run again, in a new folder."""
    return _command("train", {"flagfile": f"{run.workdir}/{FLAGS}", "workdir": "NEW"})


def resume_command(run: RunFolder) -> str:
    """Goes on with a run that is not complete."""
    return _command("train", {"flagfile": f"{run.workdir}/{FLAGS}", "workdir": run.workdir})


def evaluation_command(run: RunFolder) -> str:
    """Evaluates the run as its evaluation.json says; or, if there is none, for the first time."""
    given: dict[str, Any] = {"workdir": run.workdir}
    if run.evaluation is None:
        return _command("evaluate", {**given, "attacks": "clean,fgsm,pgd-20,autoattack"})
    facts = recorded_facts(run.evaluation)
    checkpoint = facts.get("checkpoint")
    if isinstance(checkpoint, Mapping) and "kind" in checkpoint:
        given["checkpoint"] = checkpoint["kind"]
    scores = recorded_scores(run.evaluation)
    if facts.get("protocol"):
        given["protocol"] = str(facts["protocol"]).partition(":")[0]
    else:
        given["attacks"] = ",".join(score.name for score in scores if score.name != WORST)
        given |= _chosen(scores)
    if "examples" in facts and facts["examples"] != facts.get("available_examples"):
        given["examples"] = facts["examples"]
    for name in ("batch_size", "seed"):
        if name in facts:
            given[name] = facts[name]
    return _command("evaluate", given)


def _chosen(scores: Sequence[Score]) -> dict[str, Any]:
    """The settings on which all attacks agree that have them."""
    attacks = [score for score in scores if score.name not in (CLEAN, WORST)]
    stepped = [score for score in attacks if score.name.startswith(("pgd-", "cw-"))]
    values = {"epsilon": [score.settings.get("epsilon") for score in attacks]}
    values |= {name: [score.settings.get(name) for score in stepped] for name in _CHOSEN}
    return {
        name: found[0]
        for name, found in values.items()
        if found and found[0] is not None and all(value == found[0] for value in found)
    }


def _command(launcher: str, given: Mapping[str, Any]) -> str:
    """One line, or if that is long a line for each flag."""
    flags = (f"--{name}={shlex.quote(_as_flag(value))}" for name, value in given.items())
    words = [f"python launch/{launcher}.py", *flags]
    line = " ".join(words)
    return line if len(line) <= 72 else " \\\n  ".join(words)


def _as_flag(value: Any) -> str:
    return (
        repr(value)
        if isinstance(value, float) and "/" not in format_setting(value)
        else (format_setting(value))
    )
