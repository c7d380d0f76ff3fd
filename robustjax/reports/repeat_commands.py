"""The commands that make again what the files of a run say."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from robustjax.arguments import is_number
from robustjax.reports.recorded_scores import (
    CLEAN,
    WORST,
    Score,
    format_setting,
    recorded_facts,
    recorded_scores,
)
from robustjax.runs.folder import FLAGS, RunFolder
from robustjax.step_size import default_step_size

_CHOSEN = ("step_size", "start", "success")
"""Settings that the command line chooses for all attacks by steps at once."""

_FOR_ALL = ("protocol", "epsilon", "examples", "batch_size", "seed")
"""Settings that the command line chooses for all attacks at once."""


def training_command(run: RunFolder) -> str:
    """Trains the run again, in a new folder."""
    return _command("train", {"flagfile": f"{run.workdir}/{FLAGS}", "workdir": "NEW"})


def resume_command(run: RunFolder) -> str:
    """Goes on with a run that is not complete."""
    return _command("train", {"flagfile": f"{run.workdir}/{FLAGS}", "workdir": run.workdir})


def evaluation_command(run: RunFolder) -> str:
    """Evaluates the run as its evaluation.json says; or, if there is none, for the first time.

    Several commands, each in lines of its own, where it took several.
    """
    given: dict[str, Any] = {"workdir": run.workdir}
    if run.evaluation is None:
        return _command("evaluate", {**given, "attacks": "clean,fgsm,pgd-20,autoattack"})
    facts = recorded_facts(run.evaluation)
    checkpoint = facts.get("checkpoint")
    if isinstance(checkpoint, Mapping) and "kind" in checkpoint:
        given["checkpoint"] = checkpoint["kind"]
    return "\n".join(
        _command("evaluate", {**given, **_of_group(group, facts)})
        for group in _groups(recorded_scores(run.evaluation), facts)
    )


def _of_group(attacks: Sequence[Score], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The flags with which one command runs some attacks."""
    own = {**facts, **(attacks[0].settings if attacks else {})}
    given: dict[str, Any] = {}
    if own.get("protocol"):
        given["protocol"] = str(own["protocol"]).partition(":")[0]
    else:
        # What tells attacks of one name apart stands behind the name.
        names = (score.name.partition("(")[0].rstrip("'") for score in attacks)
        given["attacks"] = ",".join([CLEAN, *names])
        given |= _chosen(attacks)
    if "examples" in own and own["examples"] != facts.get("available_examples"):
        given["examples"] = own["examples"]
    return given | {name: own[name] for name in ("batch_size", "seed") if name in own}


def _groups(scores: Sequence[Score], facts: Mapping[str, Any]) -> list[list[Score]]:
    """The attacks by the command that runs them, in their order; one group if there is none."""
    attacks = [score for score in scores if score.name not in (CLEAN, WORST)]
    groups: dict[tuple[Any, ...], list[Score]] = {}
    # Attacks without steps go with any others: those that have them make the groups.
    for score in sorted(attacks, key=_is_stepped, reverse=True):
        own = {**facts, **score.settings}
        shared = tuple(str(own.get(name)) for name in _FOR_ALL)
        steps = _of_steps(score) if _is_stepped(score) else None
        fitting = [key for key in groups if key[0] == shared and steps in (None, key[1])]
        groups.setdefault(fitting[0] if fitting else (shared, steps), []).append(score)
    ordered = [sorted(group, key=attacks.index) for group in groups.values()]
    return sorted(ordered, key=lambda group: attacks.index(group[0])) or [[]]


def _is_stepped(score: Score) -> bool:
    return score.name.startswith(("pgd-", "cw-"))


def _of_steps(score: Score) -> tuple[Any, ...]:
    """What the command line says of the steps; None is as it is where nothing is said."""
    epsilon, steps, size = (score.settings.get(name) for name in ("epsilon", "steps", "step_size"))
    known = all(map(is_number, (epsilon, steps, size)))
    usual = known and math.isclose(size, default_step_size(epsilon, steps), rel_tol=1e-6)
    return (
        None if usual else str(size),
        *(str(score.settings.get(name)) for name in ("start", "success")),
    )


def _chosen(attacks: Sequence[Score]) -> dict[str, Any]:
    """The settings on which all attacks agree that have them."""
    stepped = [score for score in attacks if _is_stepped(score)]
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
