"""Evaluating a run as a command: killed and resumed, with its images saved and looked at again."""

import functools
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robustjax import data, training
from robustjax.cli.evaluate import command as evaluate
from robustjax.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network trained on the first 400 digits."""
    folder = tmp_path_factory.mktemp("run") / "standard"
    config = TrainConfig(
        method="standard", model="digits_cnn", epsilon=0.1, epochs=2, batch_size=40,
        train_examples=400, holdout=0, learning_rate=0.05, schedule="constant", steps=1,
        measure_steps=1, measure_examples=20, workdir=str(folder),
    )  # fmt: skip
    training.train(config, stream=None)
    return folder


def start(launcher, *arguments):
    return subprocess.Popen(
        [sys.executable, f"launch/{launcher}.py", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def call(launcher, *arguments):
    process = start(launcher, *arguments)
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


def test_images_are_saved_and_stand_a_second_look_until_they_are_forged(run):
    code, out, err = call(
        "evaluate", f"--workdir={run}", "--attacks=fgsm,pgd-3", "--examples=100", "--save_images",
        "--cpu_devices=2",
    )  # fmt: skip
    assert code == 0, err
    assert "fgsm" in out and "pgd-3" in out
    summary = json.loads((run / "evaluation.json").read_text())
    assert summary["examples"] == 100 and summary["batch_size"] == 40
    (command,) = map(shlex.split, summary["commands"])
    assert command[:4] == [
        "python",
        "launch/evaluate.py",
        f"--workdir={run}",
        "--attacks=fgsm,pgd-3",
    ]
    assert not (run / "evaluation.unfinished").exists()
    code, out, err = call("verify", f"--workdir={run}")
    assert code == 0, out + err
    for name in ("fgsm", "pgd-3"):
        robust = 100 * summary["attacks"][name]["robust_accuracy"]
        assert f"{name}.npz: 100 images, linf ball of 0.1: {robust:.2f} % robust" in out
    with np.load(run / "adversarial" / "pgd-3.npz") as stored:
        forged = dict(stored)
    clean = data.load("digits", "test").images[:100] / 255.0
    assert 0.09 < np.abs(forged["images"] - clean).max() <= 0.1 + 1e-6
    forged["robust"] = np.ones(100, bool)
    forged["images"][7] += 0.01
    np.savez(run / "forged.npz", **forged)
    code, out, err = call("verify", f"--workdir={run}", f"--images={run / 'forged.npz'}")
    assert code == 1 and "1 outside of the ball or the box: 7" in out
    assert "said to be robust, and misclassified" in out and "DOES NOT HOLD" in out


def test_a_run_is_also_judged_in_a_ball_of_another_norm(run, run_command):
    evaluate_run = functools.partial(
        run_command, evaluate, evaluate.define_evaluate_flags, f"--workdir={run}", "--examples=20"
    )
    for refused, message in {
        ("--norm=l2",): "norm=l2: the run's ball is linf, and its radius no measure of another",
        ("--norm=l0",): "--norm=l0: accepted are linf, l2, l1",
        ("--norm=l2", "--epsilon=9"): "--epsilon=9: within a distance of 9 (l2) any image",
        ("--norm=l2", "--protocol=nap"): "--norm: --protocol=nap says what it is",
        ("--norm=l2", "--corruptions=x"): "--norm: --corruptions=x names the images",
    }.items():
        code, printed = evaluate_run(*refused)
        assert code == 1 and message in printed.err, printed.err
    code, printed = evaluate_run("--norm=l2", "--epsilon=3", "--attacks=pgd-10")
    assert code == 0, printed.err
    others = json.loads((run / "evaluation.json").read_text())["others"]
    (found,) = [other for other in others if other["norm"] == "l2"]
    assert found["epsilon"] == 3 and set(found["attacks"]) == {"pgd-10"}
    # Of length 3 a step reaches further than from corner to corner of linf's ball, 0.1 · √64.
    assert found["attacks"]["pgd-10"]["robust_accuracy"] < 0.2 < found["clean_accuracy"]


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_finds_the_same(run):
    slow = (f"--workdir={run}", "--attacks=pgd-4,pgd-300", "--examples=120")
    process = start("evaluate", *slow)
    unfinished = run / "evaluation.unfinished"
    latest = time.monotonic() + 120
    while not list(unfinished.glob("pgd-4-*.npz")) and time.monotonic() < latest:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert unfinished.exists()
    code, _, err = call("evaluate", *slow)
    assert code == 0, err
    resumed = json.loads((run / "evaluation.json").read_text())
    code, _, err = call("evaluate", *slow, "--again")
    assert code == 0, err
    whole = json.loads((run / "evaluation.json").read_text())
    for part in ("clean_accuracy", "attacks", "worst_case_robust_accuracy"):
        assert resumed[part] == whole[part]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol=nap"], "--protocol=nap is for cifar10, and the run was trained on digits"),
        (["--protocol=nope"], "--protocol=nope: accepted are trades"),
        (["--protocol=nap", "--epsilon=0.1"], "--epsilon: --protocol=nap says what it is"),
        (["--success=first"], "--success=first: accepted are last, any"),
        (["--devices=9"], "--devices=9: this process has"),
        (["--attacks=fgsm,pgd-3(step_size=8,start=clean)"], "step_size 8: within a distance of 8"),
        (["--attacks=pgd-3(steps=4)"], "--attacks=pgd-3(steps=4): steps is given twice"),
    ],
)
def test_mistakes_are_named(run, arguments, message):
    code, _, err = call("evaluate", f"--workdir={run}", *arguments)
    assert code == 1 and message in err and "Traceback" not in err


def test_a_file_that_holds_no_images_is_refused(run, tmp_path):
    (tmp_path / "notes.npz").write_text("nothing")
    for path in (tmp_path / "notes.npz", tmp_path / "absent.npz"):
        code, _, err = call("verify", f"--workdir={run}", f"--images={path}")
        assert code == 1 and str(path) in err and "Traceback" not in err


def test_attacks_have_settings_behind_their_names(run):
    attack = "pgd-3(step_size=1/255,start=clean)"
    code, out, err = call(
        "evaluate", f"--workdir={run}", "--examples=40", f"--attacks=fgsm,{attack}"
    )
    assert code == 0 and attack in out, err
    found = json.loads((run / "evaluation.json").read_text())["attacks"][attack]
    assert found["step_size"] == 1 / 255 and found["start"] == "clean" and found["steps"] == 3


def test_the_protocols_are_listed():
    code, out, _ = call("evaluate", "--protocol=help")
    assert code == 0 and "pgd-60x20" in out
