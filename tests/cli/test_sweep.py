"""Sweeps and figures from logs, as a person calls them."""

import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustjax.cli.sweep import parse_axis

ROOT = Path(__file__).resolve().parents[2]
TRAINING = [
    "--flagfile=launch/quickstart.flags", "--train_examples=64", "--holdout=0", "--epochs=2",
    "--batch_size=32", "--steps=1", "--measure_steps=1", "--measure_examples=16", "--devices=1",
]  # fmt: skip
EVALUATION = ["--attacks=clean,pgd-2", "--examples=40"]


def call(launcher, *arguments):
    return subprocess.run(
        [sys.executable, f"launch/{launcher}.py", *arguments],
        cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "beta"
    arguments = [
        *TRAINING, *EVALUATION, "--grid=beta=1,6", "--seeds=0,1", f"--sweep_dir={folder}",
        "--parallel=2",
    ]  # fmt: skip
    found = call("sweep", *arguments)
    assert found.returncode == 0, found.stderr
    return folder, arguments, found


def test_the_table_has_the_median_and_deviation_of_the_runs(swept):
    folder, _, found = swept
    assert "[4/4]" in found.stderr and "ETA" in found.stderr
    content = json.loads((folder / "sweep.json").read_text())
    assert [entry["values"] for entry in content["settings"]] == [{"beta": "1"}, {"beta": "6"}]
    for entry, beta in zip(content["settings"], ("1", "6"), strict=True):
        runs = [folder / "runs" / f"beta=={beta}-seed={seed}".replace("==", "=") for seed in (0, 1)]
        found = [json.loads((run / "evaluation.json").read_text()) for run in runs]
        for run, evaluation in zip(runs, found, strict=True):
            assert f"--beta={beta}\n" in (run / "flags.txt").read_text()
            assert evaluation["examples"] == 40
        clean = [evaluation["clean_accuracy"] for evaluation in found]
        assert entry["accuracy"]["clean"]["centre"] == statistics.median(clean)
        assert entry["accuracy"]["clean"]["deviation"] == pytest.approx(statistics.stdev(clean))
        robust = [evaluation["attacks"]["pgd-2"]["robust_accuracy"] for evaluation in found]
        assert entry["accuracy"]["pgd-2"]["centre"] == statistics.median(robust)
        assert entry["seeds"] == [0, 1] and entry["mean_backward_passes"] == 1
        row = f"{100 * statistics.median(clean):.2f} ± {100 * statistics.stdev(clean):.2f}"
        assert row in (folder / "sweep.md").read_text()
    assert "launch/sweep.py" in content["command"] and content["versions"]["jax"]


def test_the_seeds_make_other_runs(swept):
    folder, _, _ = swept
    logs = [(folder / "runs" / f"beta=1-seed={seed}" / "metrics.jsonl") for seed in (0, 1)]
    losses = [json.loads(log.read_text().splitlines()[-1])["loss"] for log in logs]
    assert losses[0] != losses[1]


def test_what_is_done_is_not_done_again_and_more_attacks_only_evaluate(swept):
    folder, arguments, _ = swept
    log = folder / "runs" / "beta=1-seed=0" / "metrics.jsonl"
    before = log.stat().st_mtime_ns, log.read_text()
    again = call("sweep", *arguments)
    assert again.returncode == 0 and "4 of 4 runs are done" in again.stderr
    assert "[1/" not in again.stderr
    assert (log.stat().st_mtime_ns, log.read_text()) == before


def test_a_lost_run_is_made_again_alone(swept):
    folder, arguments, _ = swept
    lost = folder / "runs" / "beta=6-seed=1"
    evaluation = json.loads((lost / "evaluation.json").read_text())
    (lost / "evaluation.json").unlink()
    again = call("sweep", *arguments)
    assert "3 of 4 runs are done" in again.stderr and "[1/1]" in again.stderr
    found = json.loads((lost / "evaluation.json").read_text())
    assert found["clean_accuracy"] == evaluation["clean_accuracy"]


def test_figures_come_from_the_logs_and_the_sweep(swept, tmp_path):
    folder, _, _ = swept
    assert (folder / "sweep.png").stat().st_size > 5000
    output = tmp_path / "figure.png"
    assert call(
        "figures", "--kind=sweep", f"--sweep_dirs={folder}", f"--output={output}"
    ).returncode == 0  # fmt: skip
    content = json.loads((folder / "sweep.json").read_text())
    with open(tmp_path / "figure.csv") as file:
        rows = list(csv.DictReader(file))
    clean = {row["beta"]: float(row["accuracy"]) for row in rows if row["attack"] == "clean"}
    for entry in content["settings"]:
        beta = f"{float(entry['values']['beta'])}"
        assert clean[beta] == pytest.approx(100 * entry["accuracy"]["clean"]["centre"])
    runs = [str(folder / "runs" / f"beta={beta}-seed=0") for beta in (1, 6)]
    for kind in ("curves", "backward_passes"):
        found = call(
            "figures", f"--kind={kind}", f"--workdirs={','.join(runs)}",
            f"--output={tmp_path / kind}.png",
        )  # fmt: skip
        assert found.returncode == 0, found.stderr
        assert (tmp_path / f"{kind}.png").stat().st_size > 5000
        with open(tmp_path / f"{kind}.csv") as file:
            rows = list(csv.DictReader(file))
        log = [json.loads(line) for line in Path(runs[0], "metrics.jsonl").read_text().splitlines()]
        key = "loss" if kind == "curves" else "mean_backward_passes"
        drawn = [
            float(row["value"]) for row in rows
            if row["run"] == "beta=1-seed=0" and row["figure"] == key
        ]  # fmt: skip
        assert drawn == pytest.approx([row[key] for row in log])


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path):
    folder = tmp_path / "rates"
    found = call(
        "sweep", *TRAINING, *EVALUATION, "--grid=learning_rate=1e30,0.01",
        f"--sweep_dir={folder}", "--epochs=1",
    )  # fmt: skip
    assert found.returncode == 1
    assert "1 of 2 runs failed" in found.stderr and "learning_rate=1e30" in found.stderr
    assert "Traceback" not in found.stderr
    settings = json.loads((folder / "sweep.json").read_text())["settings"]
    assert [len(entry["failed"]) for entry in settings] == [1, 0]
    assert settings[1]["accuracy"]["clean"]["centre"] > 0
    assert "1 failed" in (folder / "sweep.md").read_text()


def test_an_interrupted_sweep_goes_on(tmp_path):
    folder = tmp_path / "stopped"
    command = [
        sys.executable, "launch/sweep.py", *TRAINING, *EVALUATION, "--grid=beta=1,2",
        f"--sweep_dir={folder}", "--epochs=4",
    ]  # fmt: skip
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    first = folder / "runs" / "beta=1-seed=0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert not (folder / "runs" / "beta=2-seed=0").exists()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for beta in (1, 2):
        rows = (folder / "runs" / f"beta={beta}-seed=0" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4]


def test_axes():
    assert parse_axis("beta=1,6") == [{"beta": "1"}, {"beta": "6"}]
    assert parse_axis("tau=0,1@5;2") == [{"tau": "0,1@5"}, {"tau": "2"}]
    linked = parse_axis("epsilon,step_size=0.1:0.01;0.2:0.02")
    assert linked[1] == {"epsilon": "0.2", "step_size": "0.02"}


@pytest.mark.parametrize(
    ("launcher", "arguments", "message"),
    [
        ("sweep", [], "--sweep_dir is not given"),
        ("sweep", ["--sweep_dir=s", "--grid=bta=1"], "'bta' is not a flag of launch/train.py"),
        ("sweep", ["--sweep_dir=s", "--grid=seed=1"], "seeds are given by --seeds"),
        ("sweep", ["--sweep_dir=s", "--grid=beta"], "--grid=beta: accepted are NAME=V1,V2"),
        ("sweep", ["--sweep_dir=s", "--grid=beta=1,x", "--method=trades"], "not a number"),
        ("sweep", ["--sweep_dir=s", "--grid=method=trades,tradse"], "did you mean 'trades'"),
        ("sweep", ["--sweep_dir=s", "--seeds=a"], "--seeds=a: accepted are whole numbers"),
        ("sweep", ["--sweep_dir=s", "--attacks=pdg-3"], "unknown attack 'pdg-3'"),
        ("figures", ["--kind=sweep"], "--sweep_dirs is not given"),
        ("figures", ["--workdirs=nowhere"], "nowhere has no complete epoch"),
        ("figures", ["--kind=sweep", "--sweep_dirs=nowhere"], "nowhere has no sweep.json"),
    ],
)
def test_each_mistake_is_one_sentence_and_leaves_nothing(launcher, arguments, message):
    found = call(launcher, *arguments)
    assert found.returncode == 1
    assert message in found.stderr and "Traceback" not in found.stderr
    assert not (ROOT / "s").exists()
