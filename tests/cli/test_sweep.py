"""Sweeps as a person calls them: what is trained, resumed, refused, reported."""

import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from absl import flags

from robustjax import own_code
from robustjax.cli import app
from robustjax.cli.sweep import command as sweep
from robustjax.cli.sweep import processes as sweep_processes
from robustjax.cli.sweep.plan import PlannedRun, parse_axis
from robustjax.config import TrainConfig
from robustjax.reports.sweep import SweepRun

ROOT = Path(__file__).resolve().parents[2]
TRAINING = [
    "--flagfile=launch/quickstart.flags", "--train_examples=64", "--holdout=0", "--epochs=2",
    "--batch_size=32", "--steps=1", "--measure_steps=1", "--measure_examples=16", "--devices=1",
]  # fmt: skip
SWEEP = [*TRAINING, "--attacks=clean,pgd-2", "--examples=40", "--grid=beta=1,6", "--seeds=0,1"]


@pytest.fixture
def launch(monkeypatch, capsys):
    """Calls the launcher in this process; gives its exit status and what it printed."""

    def launch(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["launch/sweep.py", *arguments])
        with pytest.raises(SystemExit) as end:
            app.run(
                sweep._main,
                lambda: sweep.define_sweep_flags(values),
                description="",
                groups={},
                arguments=arguments,
            )
        return end.value.code, capsys.readouterr()

    return launch


def wait_for(path, process, seconds=240):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep that SIGTERM stopped after its first run, and that was then called again."""
    folder = tmp_path_factory.mktemp("sweeps") / "beta"
    command = [sys.executable, "launch/sweep.py", *SWEEP, f"--sweep_dir={folder}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(folder / "runs" / "beta=1-seed=1" / "flags.txt", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    first = folder / "runs" / "beta=1-seed=0"
    before = {path: path.stat().st_mtime_ns for path in sorted(first.rglob("*"))}
    assert not (folder / "runs" / "beta=6-seed=0").exists()
    again = subprocess.run(
        [*command, "--parallel=2"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    return folder, before, again


def test_a_stopped_sweep_goes_on_and_trains_nothing_twice(swept):
    folder, before, again = swept
    assert "1 of 4 runs are done" in again.stderr
    assert "[3/3]" in again.stderr and "ETA" in again.stderr
    first = folder / "runs" / "beta=1-seed=0"
    assert before == {path: path.stat().st_mtime_ns for path in sorted(first.rglob("*"))}
    for name in ("beta=1-seed=0", "beta=1-seed=1", "beta=6-seed=0", "beta=6-seed=1"):
        rows = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


def test_the_table_has_the_median_and_deviation_of_the_runs(swept):
    folder, _, again = swept
    content = json.loads((folder / "sweep.json").read_text())
    table = (folder / "sweep.md").read_text()
    assert table.split("\n* command")[0].strip() in again.stdout
    assert [entry["values"] for entry in content["settings"]] == [{"beta": "1"}, {"beta": "6"}]
    for entry, beta in zip(content["settings"], ("1", "6"), strict=True):
        runs = [folder / "runs" / f"beta={beta}-seed={seed}" for seed in (0, 1)]
        found = [json.loads((run / "evaluation.json").read_text()) for run in runs]
        for run, evaluation in zip(runs, found, strict=True):
            assert f"--beta={beta}\n" in (run / "flags.txt").read_text()
            assert evaluation["examples"] == 40
        columns = {
            "clean": [evaluation["clean_accuracy"] for evaluation in found],
            "pgd-2": [evaluation["attacks"]["pgd-2"]["robust_accuracy"] for evaluation in found],
            "worst case": [evaluation["worst_case_robust_accuracy"] for evaluation in found],
        }
        cells = [
            f"{100 * np.median(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"
            for values in columns.values()
        ]
        assert f"| beta={beta} | {' | '.join(cells)} | 2 | 1.00 |" in table
        for attack, values in columns.items():
            assert entry["accuracy"][attack]["centre"] == np.median(values)
        assert entry["seeds"] == [0, 1] and entry["mean_backward_passes"] == 1
    assert "launch/sweep.py" in content["command"] and content["versions"]["device"]
    assert "--method=trades" in content["flags"] and content["total_seconds"] > 0
    assert not any(line.startswith(("--beta", "--seed", "--workdir")) for line in content["flags"])
    image = matplotlib.image.imread(folder / "sweep.png")
    assert image.shape[0] > 300 and image[..., :3].std() > 0.01


def test_the_seeds_make_other_runs(swept):
    folder, _, _ = swept
    logs = [folder / "runs" / f"beta=1-seed={seed}" / "metrics.jsonl" for seed in (0, 1)]
    losses = [json.loads(log.read_text().splitlines()[-1])["loss"] for log in logs]
    assert losses[0] != losses[1]


def test_the_report_is_made_again_from_the_folder_alone(swept, launch, tmp_path):
    folder, _, again = swept
    before = json.loads((folder / "sweep.json").read_text())
    for name in ("sweep.md", "sweep.html", "sweep.png", "sweep.csv"):
        (folder / name).unlink()
    code, printed = launch(f"--sweep_dir={folder}", "--report_only")
    assert code == 0 and printed.out == again.stdout
    assert {path.name for path in folder.glob("sweep.*")} == {
        "sweep.csv", "sweep.html", "sweep.json", "sweep.md", "sweep.png",
    }  # fmt: skip
    assert json.loads((folder / "sweep.json").read_text()) == before
    code, printed = launch(f"--sweep_dir={folder}", "--report_only", "--center=mean")
    assert code == 0 and "mean ± sample standard deviation" in printed.out
    code, printed = launch(f"--sweep_dir={tmp_path}", "--report_only")
    assert code == 1 and "has no sweep.json" in printed.err


@pytest.fixture
def started(monkeypatch):
    """Names of the runs that a sweep would start; they fail at once instead."""
    names = []

    def start(planned, evaluation, parallel):
        names.append(planned.run.workdir.name)
        log = sweep_processes._log_of(planned.run.workdir)
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "a") as stream:
            stream.write("error: out of luck\n")
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])

    monkeypatch.setattr(sweep_processes, "_start", start)
    return names


@pytest.mark.parametrize(
    ("changed", "starts"),
    [
        ([], 0),
        (["--attacks=pgd-2"], 0),
        (["--attacks=clean,pgd-2,fgsm"], 4),
        (["--examples=39"], 4),
        (["--examples=0"], 4),
        (["--attack_step_size=0.01"], 4),
        (["--checkpoint=latest"], 4),
        (["--epochs=3"], 4),
        (["--seeds=1,2"], 2),
    ],
)
def test_only_what_lacks_something_that_is_asked_for_is_started(
    swept, launch, started, changed, starts
):
    folder, _, again = swept
    code, printed = launch(*SWEEP, f"--sweep_dir={folder}", *changed)
    assert (code, len(started)) == (int(starts > 0), starts), printed.err
    # What fails is no reason to lose the table for those who call the sweep as before.
    assert launch(*SWEEP, f"--sweep_dir={folder}")[1].out == again.stdout


def test_a_folder_of_other_options_is_refused_and_not_reported_as_done(swept, launch, started):
    folder, _, _ = swept
    code, printed = launch(*SWEEP, f"--sweep_dir={folder}", "--learning_rate=0.07")
    assert code == 1 and started == []
    assert "other options: --learning_rate=0.07 (was 0.05)" in printed.err


def test_a_run_that_fails_is_named_and_the_others_go_on(launch, started, tmp_path):
    code, printed = launch(*SWEEP, f"--sweep_dir={tmp_path}", "--grid=momentum=0.8,0.9")
    assert code == 1 and len(started) == len(set(started)) == 8
    assert "8 of 8 runs failed" in printed.err and "Traceback" not in printed.err
    assert f"{tmp_path}/runs/beta=6-momentum=0.9-seed=1: error: out of luck" in printed.err
    assert "| beta=6 momentum=0.9 | 0, 2 failed |" in (tmp_path / "sweep.md").read_text()
    code, printed = launch(f"--sweep_dir={tmp_path}", "--report_only")
    assert code == 0 and "| beta=6 momentum=0.9 | 0, 2 failed |" in printed.out


def test_a_run_that_a_signal_ended_says_so(monkeypatch, launch, tmp_path):
    def start(planned, evaluation, parallel):
        log = sweep_processes._log_of(planned.run.workdir)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("epoch 1/2\n")
        kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        return subprocess.Popen([sys.executable, "-c", kill])

    monkeypatch.setattr(sweep_processes, "_start", start)
    _, printed = launch(*TRAINING, f"--sweep_dir={tmp_path}")
    assert "ended by SIGKILL after: epoch 1/2" in printed.err


def test_never_more_runs_at_once_than_asked_for(monkeypatch, launch, tmp_path):
    running, most = [], []

    def start(planned, evaluation, parallel):
        log = sweep_processes._log_of(planned.run.workdir)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("done\n")
        running[:] = [process for process in running if process.poll() is None]
        running.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"]))
        most.append(len(running))
        return running[-1]

    monkeypatch.setattr(sweep_processes, "_start", start)
    code, _ = launch(*TRAINING, f"--sweep_dir={tmp_path}", "--seeds=0,1,2,3,4", "--parallel=3")
    assert code == 0 and len(most) == 5 and max(most) == 3


def test_a_run_stops_when_its_sweep_is_killed_outright(tmp_path):
    child = (
        "import os, time; from robustjax.cli.sweep import child; child._stop_with(os.getppid());"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(os.getpid())); time.sleep(120)"
    )
    parent = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(120)"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", parent], env=environment)
    wait_for(tmp_path / "child", process, 60)
    time.sleep(0.2)
    number = int((tmp_path / "child").read_text())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while is_alive(number) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_alive(number)


def is_alive(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_flag_after_the_grid_of_files_overrides_them_all(launch, started, tmp_path):
    files = "launch/trades.flags;launch/standard.flags"
    launch(
        f"--grid=flagfile={files}", "--seeds=3", f"--sweep_dir={tmp_path}", "--model=resnet_18",
        "--decay_epochs=2,3", "--beta=",
    )  # fmt: skip
    assert started == ["trades-seed=3", "standard-seed=3"]
    plan = json.loads((tmp_path / "sweep.json").read_text())["flags"]
    assert "--model=resnet_18" in plan and "--decay_epochs=2,3" in plan
    assert not any(line.startswith(("--beta", "--epochs", "--method")) for line in plan)


def test_axes():
    assert parse_axis("beta=1,6") == [{"beta": "1"}, {"beta": "6"}]
    assert parse_axis("tau=0,1@5;2") == [{"tau": "0,1@5"}, {"tau": "2"}]
    linked = parse_axis("epsilon,step_size=0.1:0.01;0.2:0.02")
    assert linked[1] == {"epsilon": "0.2", "step_size": "0.02"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "--sweep_dir is not given"),
        ("--sweep_dir=s --grid=bta=1", "'bta' is not a flag of launch/train.py"),
        ("--sweep_dir=s --grid=seed=1", "seeds are given by --seeds"),
        ("--sweep_dir=s --grid=beta", "--grid=beta: accepted are NAME=V1,V2"),
        ("--sweep_dir=s --method=trades --grid=beta=1,x", "'beta=x': flag --beta=x"),
        ("--sweep_dir=s --method=trades --grid=beta=1,-2", "'beta=-2': --beta=-2.0: accepted"),
        ("--sweep_dir=s --grid=method=trades,tradse", "did you mean 'trades'"),
        ("--sweep_dir=s --grid=epsilon=0.1,0.1", "would share the folder"),
        ("--sweep_dir=s --seeds=1,1", "would share the folder"),
        ("--sweep_dir=s --method=trades --grid=beta=1 --grid=beta=2", "a flag is swept twice"),
        ("--sweep_dir=s --grid=flagfile=launch/nothing.flags", "nothing"),
        (
            "--sweep_dir=s --grid=measure_attack=fgsm,square",
            "'measure_attack=square': --measure_attack=square: accepted are fgsm, fgsm-random",
        ),
        ("--sweep_dir=s --seeds=a", "--seeds=a: accepted are whole numbers"),
        ("--sweep_dir=s --seeds=", "--seeds= is empty"),
        ("--sweep_dir=s --seed=5", "--seed: what each run of a sweep has follows from --seeds"),
        ("--sweep_dir=s --workdir=x", "--workdir: what each run of a sweep has follows from"),
        ("--sweep_dir=s --attacks=", "--attacks= is empty"),
        ("--sweep_dir=s --attacks=clean --protocol=mart", "--attacks: --protocol=mart says"),
        ("--sweep_dir=s --dataset=digits --protocol=mart", "--protocol=mart is for cifar10, mnist"),
        ("--sweep_dir=s --protocol=marrt", "did you mean 'mart'"),
        ("--sweep_dir=s --norm=l2 --epsilon=0.5 --attacks=spsa-1x2", "--attacks=spsa-1x2: it is"),
        ("--sweep_dir=s --classes=3,5 --attacks=apgd-dlr", "--attacks=apgd-dlr: it needs 3"),
        ("--sweep_dir=s --attack_step_size=8", "--attack_step_size=8: within a distance of 8"),
        ("--sweep_dir=s --attacks=pdg-3", "--attacks=pdg-3: accepted are"),
        ("--sweep_dir=s --attacks=cw-3 --grid=norm=linf,l2", "'norm=l2': --attacks=cw-3"),
        ("--sweep_dir=s --attack_step_size=x", "--attack_step_size: 'x' is not a number"),
        ("--sweep_dir=s --attack_step_size=-1", "--attack_step_size=-1.0: accepted are"),
        ("--sweep_dir=s --checkpoint=last", "--checkpoint=last: accepted are best, latest"),
        ("--sweep_dir=s --examples=-1", "--examples=-1: accepted are whole numbers, 0 to"),
        ("--sweep_dir=s --parallel=0", "--parallel=0: accepted are whole numbers, 1 to"),
    ],
)
def test_each_mistake_is_one_sentence_and_starts_nothing(
    launch, started, tmp_path, arguments, message
):
    arguments = arguments.replace("--sweep_dir=s", f"--sweep_dir={tmp_path / 's'}")
    code, printed = launch(*shlex.split(arguments))
    assert code == 1 and started == []
    assert message in printed.err and "Traceback" not in printed.err
    assert printed.err.startswith("error: ")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_protocol_says_what_the_runs_of_a_sweep_are_attacked_by(launch, tmp_path, data_dir):
    command = (
        "--flagfile=launch/sense_mnist_natural.flags", "--model=sense_mnist_cnn_1", "--epochs=1",
        "--train_examples=256", "--holdout=0", "--batch_size=64", f"--data_dir={data_dir}",
        "--protocol=sense", "--examples=10", f"--sweep_dir={tmp_path}",
    )  # fmt: skip
    code, printed = launch(*command)
    assert code == 0, printed.err
    (setting,) = json.loads((tmp_path / "sweep.json").read_text())["settings"]
    (run,) = setting["runs"]
    assert set(setting["accuracy"]) == {"clean", "pgd-500x20", "worst case"}
    assert run["attacks"]["pgd-500x20"]["step_size"] == 0.01
    assert run["attacks"]["pgd-500x20"]["epsilon"] == 0.3 and run["examples"] == 10
    code, printed = launch(*command)
    assert code == 0 and "1 of 1 runs are done" in printed.err
    assert launch(f"--sweep_dir={tmp_path}", "--report_only")[0] == 0


def test_the_median_is_not_the_mean():
    assert statistics.median([0, 0, 3]) != statistics.fmean([0, 0, 3])
    from robustjax.reports.sweep import spread

    assert spread([0.1, 0.1, 0.7], "median").centre == 0.1
    assert spread([0.1, 0.1, 0.7], "mean").centre == pytest.approx(0.3)


def test_the_runs_are_told_of_what_no_file_makes_theirs(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(own_code, "_named_by_a_person", set())
    monkeypatch.setattr(
        sweep_processes.subprocess, "Popen", lambda command, **_: started.append(command)
    )
    run = SweepRun({}, 0, Path(tmp_path) / "runs" / "one")
    given = {"model": "mine.nets:build", "set": ("loss=mine.losses:f", "loss_weight=2")}
    config = TrainConfig(log=("wandb", "mine.logs:create"), devices=2, **given)
    sweep_processes._start(PlannedRun(run, config), [], parallel=1)
    assert {"--log=wandb,mine.logs:create", "--devices=2"} <= set(started[0])
    assert not [part for part in started[0] if part.startswith(("--model", "--set"))]

    own_code.trust_command_line(["--model=mine.nets:build", "--set=loss=mine.losses:f"])
    sweep_processes._start(PlannedRun(run, config), [], parallel=1)
    told = [part for part in started[1] if part.startswith(("--model", "--set"))]
    assert told == ["--model=mine.nets:build", "--set=loss=mine.losses:f"]
