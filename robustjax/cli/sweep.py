"""`launch/sweep.py`: trains and evaluates one experiment for several values and seeds."""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from robustjax import evaluation, training
from robustjax.cli import app
from robustjax.cli.train import train_groups
from robustjax.config import TrainConfig
from robustjax.evaluation import sweep as results
from robustjax.evaluation import sweep_figures
from robustjax.files import Path, write_whole
from robustjax.flags import config_from_flags, define_flags, own_hyperparameters
from robustjax.training.log import format_seconds, read_rows

DESCRIPTION = """\
Trains and evaluates an experiment for every combination of some values, with several seeds. What is
finished is not repeated and what was interrupted is resumed, so the same command goes on.

  python launch/sweep.py --flagfile=launch/trades.flags --grid=beta=1,3,6 --seeds=0,1,2 \\
    --sweep_dir=sweeps/trades_beta --attacks=clean,pgd-20,cw-30
  python launch/sweep.py --grid='flagfile=launch/standard.flags;launch/trades.flags' --seeds=0 \\
    --sweep_dir=sweeps/methods --model=resnet_18

--grid=NAME=V1,V2,... sweeps over a flag of launch/train.py; values that contain commas are
separated by semicolons instead. --grid='epsilon,step_size=0.03:0.003;0.06:0.006' sweeps over two
flags at once. --grid='flagfile=A;B' compares flag files, which every other flag overrides; a
repeated --grid gives all combinations. The result is sweep.md, sweep.json, sweep.png, sweep.csv."""

OWN_GROUPS = {
    "sweep": ["sweep_dir", "grid", "seeds", "parallel", "report_only", "center"],
    "evaluation": ["attacks", "examples", "attack_step_size", "checkpoint", "attack_batch_size"],
}


def main() -> None:
    """Parses the command line and runs the sweep."""
    groups = {**OWN_GROUPS, **{f"training, {name}": of for name, of in train_groups().items()}}
    app.run(_main, _define_flags, description=DESCRIPTION, groups=groups)


def _define_flags() -> None:
    define_flags()
    flags.DEFINE_string("sweep_dir", "", "folder that the runs and the results go to")
    flags.DEFINE_multi_string("grid", [], "NAME=V1,V2,...; may be repeated")
    flags.DEFINE_list("seeds", ["0"], "seeds, as 0,1,2")
    flags.DEFINE_integer("parallel", 1, "runs at the same time, each with its share of the cores")
    flags.DEFINE_bool("report_only", False, "only make the table and figure of what is there")
    flags.DEFINE_enum("center", "median", list(results.CENTRES), "over the seeds")
    flags.DEFINE_list("attacks", ["clean", "pgd-20"], f"accepted are {evaluation.ACCEPTED}")
    flags.DEFINE_integer("examples", 0, "the first N of the test set; 0: all")
    flags.DEFINE_string("attack_step_size", "", "of PGD and CW in evaluation; a tenth of epsilon")
    flags.DEFINE_string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    flags.DEFINE_integer("attack_batch_size", 0, "examples attacked at once; as in training if 0")


def _main() -> None:
    values = flags.FLAGS
    if not values.sweep_dir:
        raise app.CommandError("--sweep_dir is not given; name the folder of the sweep")
    if values.parallel < 1:
        raise app.CommandError(f"--parallel={values.parallel}: accepted are 1 or more")
    for name in values.attacks:
        evaluation.parse_attack(name)
    folder = Path(values.sweep_dir)
    plan = [(run, config) for run, config in planned_runs(folder)]
    command = shlex.join(["python", *sys.argv])
    failures: dict[str, str] = {}

    def report() -> list[dict[str, Any]]:
        runs = [run._replace(error=failures.get(str(run.workdir), "")) for run, _ in plan]
        return write_results(folder, runs, values.center, command)

    if not values.report_only:
        _run_all(folder, plan, failures, report)
    settings = report()
    print(results.to_table(settings, values.center))
    print(f"results: {folder / 'sweep.md'}   figure: {folder / 'sweep.png'}", file=sys.stderr)
    if failures:
        lines = [f"{name}: {error}" for name, error in failures.items()]
        raise app.CommandError(f"{len(failures)} of {len(plan)} runs failed: " + "; ".join(lines))


def planned_runs(folder: Path) -> Iterator[tuple[results.SweepRun, TrainConfig]]:
    """The runs that the parsed flags ask for, each checked before any is started."""
    values = flags.FLAGS
    try:
        seeds = [int(seed) for seed in values.seeds]
    except ValueError:
        raise app.CommandError(
            f"--seeds={','.join(values.seeds)}: accepted are whole numbers"
        ) from None
    axes = [parse_axis(text) for text in values.grid]
    given = list(_given_train_flags())
    for combination in itertools.product(*axes):
        chosen = dict(itertools.chain.from_iterable(part.items() for part in combination))
        files = [f"--{name}={value}" for name, value in chosen.items() if name == "flagfile"]
        swept = [f"--{name}={value}" for name, value in chosen.items() if name != "flagfile"]
        for seed in seeds:
            run = results.SweepRun(chosen, seed, Path())
            run = run._replace(workdir=folder / "runs" / _folder_name(run))
            arguments = [*files, *given, *swept, f"--seed={seed}", f"--workdir={run.workdir}"]
            config = _parse(arguments)
            training.check_experiment(config)
            yield run, config


def parse_axis(text: str) -> list[dict[str, str]]:
    """The values of one --grid, each as flag -> value.

    Raises:
      CommandError: it is not of the form NAME=V1,V2 or A,B=V1:W1;V2:W2.
    """
    names_text, equals, values_text = text.partition("=")
    names = names_text.split(",")
    separator = ";" if ";" in values_text or len(names) > 1 else ","
    choices = [value for value in values_text.split(separator) if value]
    rows = [choice.split(":") if len(names) > 1 else [choice] for choice in choices]
    if not equals or not all(names) or not rows or any(len(row) != len(names) for row in rows):
        raise app.CommandError(
            f"--grid={text}: accepted are NAME=V1,V2,... (or V1;V2 if they contain commas) and "
            "A,B=V1:W1;V2:W2"
        )
    known = {"flagfile", *own_hyperparameters(), *TrainConfig.__dataclass_fields__}
    for name in names:
        if name not in known or name in ("seed", "workdir"):
            raise app.CommandError(
                f"--grid={text}: {name!r} is not a flag of launch/train.py that can be swept "
                "(seeds are given by --seeds)"
            )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _given_train_flags() -> Iterator[str]:
    """The training flags that the command line (or its flag files) gave."""
    values = flags.FLAGS
    names = [*own_hyperparameters(), *TrainConfig.__dataclass_fields__]
    for name in names:
        if values[name].present and name not in ("seed", "workdir"):
            text = values[name].serialize()
            yield from text.splitlines() if text else ()


def _parse(arguments: Sequence[str]) -> TrainConfig:
    values = flags.FlagValues()
    define_flags(values)
    values(["sweep", *arguments])
    return config_from_flags(values)


def _folder_name(run: results.SweepRun) -> str:
    name = "-".join([*run.name.split(), f"seed={run.seed}"])
    return "".join(letter if letter.isalnum() or letter in "=-_.@" else "_" for letter in name)


def _run_all(folder: Path, plan: list, failures: dict[str, str], report: Any) -> None:
    """Runs what is not done yet, at most --parallel at once, and reports after each."""
    values = flags.FLAGS
    waiting = [(run, config) for run, config in plan if not _is_done(run, config)]
    if len(waiting) < len(plan):
        print(f"{len(plan) - len(waiting)} of {len(plan)} runs are done", file=sys.stderr)
    running: dict[subprocess.Popen, results.SweepRun] = {}
    started, finished = time.monotonic(), 0

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        queue = iter(waiting)
        while finished < len(waiting):
            while len(running) < values.parallel and (entry := next(queue, None)) is not None:
                running[_start(*entry)] = entry[0]
            time.sleep(0.2)
            for process in [process for process in running if process.poll() is not None]:
                run = running.pop(process)
                finished += 1
                if process.returncode:
                    failures[str(run.workdir)] = _last_line(run.workdir)
                left = (time.monotonic() - started) / finished * (len(waiting) - finished)
                print(
                    f"[{finished}/{len(waiting)}] {run.workdir.name}: {_last_line(run.workdir)}"
                    f"   ETA {format_seconds(left)}",
                    file=sys.stderr,
                    flush=True,
                )
                report()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
        signal.signal(signal.SIGTERM, previous)


def _start(run: results.SweepRun, config: TrainConfig) -> subprocess.Popen:
    """Starts training and evaluation of one run in a process of its own."""
    values = flags.FLAGS
    run.workdir.parent.mkdir(parents=True, exist_ok=True)
    flag_file = run.workdir.parent / f"{run.workdir.name}.flags"
    write_whole(flag_file, config.to_flags())
    machine = [f"--devices={config.devices}", f"--cpu_devices={config.cpu_devices}"]
    evaluate = {
        "attack_names": values.attacks,
        "examples": values.examples,
        "checkpoint": values.checkpoint,
        "batch_size": values.attack_batch_size,
        "step_size": values.attack_step_size,
    }
    places = [os.fspath(app.PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    if values.parallel > 1:
        cores = max((os.cpu_count() or 1) // values.parallel, 1)
        environment.setdefault("OMP_NUM_THREADS", str(cores))
    with open(os.fspath(_log_of(run.workdir)), "w") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "robustjax.cli.sweep_run",
                json.dumps(evaluate),
                f"--flagfile={flag_file}",
                *machine,
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _is_done(run: results.SweepRun, config: TrainConfig) -> bool:
    values = flags.FLAGS
    metrics = run.workdir / "metrics.jsonl"
    trained = metrics.exists() and read_rows(metrics)[-1]["epoch"] >= config.epochs
    return trained and results.is_evaluated(run, values.attacks, values.examples)


def _log_of(workdir: Path) -> Path:
    return workdir.parent / f"{workdir.name}.log"


def _last_line(workdir: Path) -> str:
    lines = [line for line in _log_of(workdir).read_text().splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"


def write_results(
    folder: Path, runs: Sequence[results.SweepRun], centre: str, command: str
) -> list[dict[str, Any]]:
    """Writes sweep.json, sweep.md, and the figure of what is there.

    Returns:
      The settings of `evaluation.sweep.gather`.
    """
    settings = results.gather(runs, centre)
    found = [entry for entry in settings if entry["accuracy"]]
    about = {"command": command, "center": centre}
    evaluations = [run.workdir / "evaluation.json" for run in runs]
    done = [json.loads(path.read_text()) for path in evaluations if path.exists()]
    if done:
        about |= {"versions": done[-1]["versions"], "examples": done[-1]["examples"]}
    table = results.to_table(settings, centre)
    facts = [f"* {key}: {value}" for key, value in about.items()]
    write_whole(folder / "sweep.json", json.dumps({**about, "settings": settings}, indent=2) + "\n")
    write_whole(folder / "sweep.md", "\n".join([table, *facts]) + "\n")
    if found:
        path = folder / "sweep.png"
        if sweep_figures.numeric_axis(found) and len(found) > 1:
            sweep_figures.accuracy_against_value({folder.name: found}, path)
        else:
            sweep_figures.settings_side_by_side(found, path)
    return settings
