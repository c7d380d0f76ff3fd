"""The commands that train a run, train it on, and evaluate it for the first time.

The command that made a result is not here: it is recorded in the result.
"""

import shlex

from robustjax import installed
from robustjax.runs.folder import FLAGS, RunFolder


def training_command(run: RunFolder) -> str:
    """Trains the run again, in a new folder."""
    return _command("train", flagfile=f"{run.workdir}/{FLAGS}", workdir="NEW")


def resume_command(run: RunFolder) -> str:
    """Goes on with a run that is not complete."""
    return _command("train", flagfile=f"{run.workdir}/{FLAGS}", workdir=run.workdir)


def first_evaluation_command(run: RunFolder) -> str:
    """Evaluates a run that has not been evaluated."""
    return _command("evaluate", workdir=run.workdir, attacks="clean,fgsm,pgd-20,autoattack")


def _command(name: str, **given: str) -> str:
    """One line, or if that is long a line for each flag."""
    flags = (f"--{flag}={shlex.quote(value)}" for flag, value in given.items())
    words = [installed.written(name), *flags]
    line = " ".join(words)
    return line if len(line) <= 72 else " \\\n  ".join(words)
