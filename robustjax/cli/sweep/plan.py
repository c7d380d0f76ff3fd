"""Which runs a sweep consists of: the product of its axes and seeds, each checked beforehand."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from robustjax import training
from robustjax.arguments import (
    LARGEST_SEED,
    did_you_mean,
    require_choice,
    require_finite,
    require_whole,
)
from robustjax.attacks.threat_model import NORMS
from robustjax.cli import flag_files
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.evaluation.protocols import protocol_attacks
from robustjax.evaluation.spec import parse_attack
from robustjax.files import Path
from robustjax.flags import config_from_flags, define_flags, own_hyperparameters, read_flags
from robustjax.reports.sweep import CENTRES, SweepRun, Wanted
from robustjax.runs.claim import has_begun
from robustjax.runs.names import FLAGS

RUNS = "runs"
"""The folder, in that of the sweep, which has a folder for each run."""


class PlannedRun(NamedTuple):
    """A run of a sweep and its options."""

    run: SweepRun
    config: TrainConfig


def planned_runs(
    folder: Path, grid: Sequence[str], seeds: Sequence[str], values: flags.FlagValues
) -> list[PlannedRun]:
    """The runs that the flags ask for, in the order of the grid.

    Args:
      folder: of the sweep.
      grid: the --grid texts.
      seeds: as text.
      values: parsed training flags that all runs share.

    Raises:
      UserError: an option of a run is not accepted, two runs would share a folder, or a folder
        holds the run of another experiment. Nothing has been started or written.
    """
    axes = [parse_axis(text) for text in grid]
    shared = list(given_train_flags(values))
    plan: dict[Path, PlannedRun] = {}
    for combination in itertools.product(*axes):
        chosen = dict(itertools.chain.from_iterable(part.items() for part in combination))
        if len(chosen) < sum(map(len, combination)):
            raise UserError(f"--grid={' --grid='.join(grid)}: a flag is swept twice")
        for seed in map(_parse_seed, seeds):
            planned = _plan_run(folder, chosen, seed, shared)
            workdir = planned.run.workdir
            if workdir in plan:
                raise UserError(
                    f"--grid, --seeds: two of the runs would share the folder {workdir}"
                )
            plan[workdir] = planned
    return list(plan.values())


def parse_axis(text: str) -> list[dict[str, str]]:
    """The values of one --grid, each as flag -> value.

    Raises:
      UserError: it is not of the form NAME=V1,V2 or A,B=V1:W1;V2:W2.
    """
    names_text, equals, values_text = text.partition("=")
    names = names_text.split(",")
    separator = ";" if ";" in values_text or len(names) > 1 else ","
    choices = [value for value in values_text.split(separator) if value]
    rows = [choice.split(":") if len(names) > 1 else [choice] for choice in choices]
    if not equals or not all(names) or not rows or any(len(row) != len(names) for row in rows):
        raise UserError(
            f"--grid={text}: accepted are NAME=V1,V2,... (or V1;V2 if they contain commas) and "
            "A,B=V1:W1;V2:W2"
        )
    known = {"flagfile", *own_hyperparameters(), *TrainConfig.__dataclass_fields__}
    for name in names:
        if name not in known or name in ("seed", "workdir"):
            raise UserError(
                f"--grid={text}: {name!r} is not a flag of launch/train.py that can be swept "
                f"(seeds are given by --seeds){did_you_mean(name, known - {'seed', 'workdir'})}"
            )
    return [dict(zip(names, row, strict=True)) for row in rows]


def recorded_runs(folder: Path, content: Mapping[str, Any]) -> list[SweepRun]:
    """The runs that a sweep.json was written for.

    Args:
      folder: of the sweep, wherever it lies now.
      content: of its sweep.json.

    Raises:
      UserError: it is damaged.
    """
    try:
        _require_text("command", content["command"])
        require_choice("center", content.get("center", "median"), tuple(CENTRES))
        require_finite("total_seconds", content.get("total_seconds", 0))
        failed = {
            name: error for entry in content["settings"] for name, error in entry["failed"].items()
        }
        folders = [entry["folder"] for entry in content["plan"]]
        if len(set(folders)) < len(folders):
            raise UserError("two runs have one folder")
        return [
            SweepRun(
                {str(name): str(value) for name, value in entry["values"].items()},
                int(entry["seed"]),
                folder / RUNS / Path(entry["folder"]).name,
                failed.get(entry["folder"], ""),
            )
            for entry in content["plan"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(folder, error) from error


def recorded_evaluation(folder: Path, content: Mapping[str, Any]) -> dict[Path, Wanted] | None:
    """The evaluation that each run of a sweep.json is to have; None if it does not say.

    Raises:
      UserError: it is damaged.
    """
    try:
        if not all("evaluation" in entry for entry in content["plan"]):
            return None
        return {
            folder / RUNS / Path(entry["folder"]).name: _wanted(entry["evaluation"])
            for entry in content["plan"]
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _damaged(folder, error) from error


def _require_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")


def _wanted(entry: Mapping[str, Any]) -> Wanted:
    wanted = Wanted(**entry)
    for attack in wanted.attacks:
        parse_attack(attack)
    if wanted.protocol:
        protocol_attacks(wanted.protocol, wanted.dataset)
    require_choice("checkpoint", wanted.checkpoint, ("best", "latest"))
    require_choice("norm", wanted.norm, ("", *NORMS))
    require_whole("examples", wanted.examples)
    require_whole("epochs", wanted.epochs)
    require_finite("epsilon", wanted.epsilon)
    if wanted.step_size is not None:
        require_finite("step_size", wanted.step_size)
    return wanted


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder / 'sweep.json'} is damaged ({type(error).__name__}: {error}); repeat the sweep's "
        "command without --report_only, which trains nothing again"
    )


def common_flags(configs: Iterable[TrainConfig]) -> list[str]:
    """The training flags in which experiments agree, one --name=value each."""
    texts = [config.to_flags().splitlines() for config in configs]
    common = set(texts[0]).intersection(*texts)
    return [line for line in texts[0] if line in common]


def _parse_seed(text: str) -> int:
    if not text.isdecimal() or len(text) > len(str(LARGEST_SEED)) or int(text) > LARGEST_SEED:
        raise UserError(f"--seeds={text:.40}: accepted are whole numbers from 0 to {LARGEST_SEED}")
    return int(text)


def _plan_run(
    folder: Path, chosen: Mapping[str, str], seed: int, shared: Sequence[str]
) -> PlannedRun:
    run = SweepRun(chosen, seed, Path())
    run = run._replace(workdir=folder / RUNS / _folder_name(run))
    files = [f"--{name}={value}" for name, value in chosen.items() if name == "flagfile"]
    swept = [f"--{name}={value}" for name, value in chosen.items() if name != "flagfile"]
    try:
        config = _parse([*files, *shared, *swept, f"--seed={seed}", f"--workdir={run.workdir}"])
        training.check_experiment(config)
    except (ValueError, flags.Error) as error:
        raise UserError(f"{run.name!r}: {error}") from error
    if has_begun(config.workdir):
        try:
            differences = config.differences(read_flags(run.workdir / FLAGS, alone=True))
        except (OSError, ValueError, flags.Error):  # Training refuses it, and says why.
            differences = []
        if differences:
            raise UserError(
                f"--sweep_dir={folder}: {run.workdir} holds a run with other options: "
                f"{', '.join(differences)}; give the same options, or another --sweep_dir"
            )
    return PlannedRun(run, config)


def given_train_flags(values: flags.FlagValues) -> Iterator[str]:
    """The training flags that the command line (or its flag files) gave."""
    for name in [*own_hyperparameters(), *TrainConfig.__dataclass_fields__]:
        if not values[name].present or name in ("seed", "workdir"):
            continue
        if values[name].value is None:
            # absl writes nothing for it; --name= takes back what a flag file of the grid gives.
            yield f"--{name}="
        else:
            yield from values[name].serialize().splitlines()


def _parse(arguments: Sequence[str]) -> TrainConfig:
    values = flags.FlagValues()
    define_flags(values)
    values(["sweep", *flag_files.expanded(arguments)])
    return config_from_flags(values)


def _folder_name(run: SweepRun) -> str:
    name = "-".join([*run.name.split(), f"seed={run.seed}"])
    return "".join(letter if letter.isalnum() or letter in "=-_.@" else "_" for letter in name)
