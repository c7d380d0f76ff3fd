"""Figures from the logs of runs and sweeps, as a person draws them."""

import csv
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from robustjax.cli import figures
from robustjax.runs.log import KEYS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def launch(run_command):
    return functools.partial(run_command, figures, figures.define_figure_flags)


def write_log(folder, losses, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            **dict.fromkeys(KEYS, 0.5),
            "epoch": epoch,
            "step": 4 * epoch,
            "loss": loss,
            "train_clean_accuracy": 0.9,
            "train_robust_accuracy": 0.5,
            "holdout_clean_accuracy": 0.8,
            "holdout_robust_accuracy": 0.4,
            "mean_backward_passes": 2 * loss,
            **changed,
        }
        for epoch, loss in enumerate(losses, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_sweep(folder, settings):
    """settings: name -> (values, clean accuracy, losses for each seed)."""
    entries = []
    for name, (values, clean, logs) in settings.items():
        runs = [{"folder": f"{name}-seed={seed}"} for seed in range(len(logs))]
        for run, losses in zip(runs, logs, strict=True):
            write_log(folder / "runs" / run["folder"], losses)
        accuracy = {"clean": {"centre": clean, "deviation": 0.02}}
        entries.append({"name": name, "values": values, "accuracy": accuracy, "runs": runs})
    (folder / "sweep.json").write_text(json.dumps({"settings": entries}))
    return folder


def numbers(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("kind", "key", "factor"), [("curves", "loss", 1), ("backward_passes", None, 2)]
)
def test_runs_with_the_same_last_name_are_two_lines(launch, tmp_path, kind, key, factor):
    first = write_log(tmp_path / "a" / "run", [3.0, 2.0, 1.0])
    second = write_log(tmp_path / "b" / "run", [6.0, 5.0])
    code, printed = launch(f"--kind={kind}", f"--workdirs={first},{second}")
    assert code == 0, printed.err
    path = tmp_path / "a" / f"{kind}.csv"
    assert str(path) in printed.err and path.with_suffix(".png").stat().st_size > 5000
    rows = [row for row in numbers(path) if row["figure"] == (key or "mean_backward_passes")]
    drawn = [(row["run"], int(row["epoch"]), float(row["value"])) for row in rows]
    expected = [("a/run", 1, 3.0), ("a/run", 2, 2.0), ("a/run", 3, 1.0)]
    expected += [("b/run", 1, 6.0), ("b/run", 2, 5.0)]
    assert drawn == [(name, epoch, factor * value) for name, epoch, value in expected]


def test_a_sweep_is_drawn_as_the_median_of_its_seeds(launch, tmp_path):
    logs = [[1.0, 4.0], [2.0, 5.0], [9.0, 6.0]]
    folder = write_sweep(tmp_path / "s", {"beta=1": ({"beta": "1"}, 0.5, logs)})
    code, printed = launch("--kind=curves", f"--sweep_dirs={folder}")
    assert code == 0, printed.err
    rows = [row for row in numbers(folder / "curves.csv") if row["figure"] == "loss"]
    assert [float(row["value"]) for row in rows] == list(np.median(logs, axis=0))
    deviations = [float(row["deviation"]) for row in rows]
    np.testing.assert_allclose(deviations, np.std(logs, axis=0, ddof=1))
    assert {row["run"] for row in rows} == {"beta=1"}


def test_sweeps_are_lines_over_the_swept_value(launch, tmp_path):
    def settings(offset):
        return {
            f"beta={beta}": ({"beta": beta}, offset + float(beta) / 100, [[1.0]])
            for beta in ("10", "1", "0.5")
        }

    first = write_sweep(tmp_path / "mart", settings(0.5))
    second = write_sweep(tmp_path / "trades", settings(0.2))
    output = tmp_path / "out" / "figure.png"
    code, printed = launch("--kind=sweep", f"--sweep_dirs={first},{second}", f"--output={output}")
    assert code == 0, printed.err
    drawn = [
        (row["line"], float(row["beta"]), float(row["accuracy"]), float(row["deviation"]))
        for row in numbers(output.with_suffix(".csv"))
    ]
    expected = [
        (name, beta, pytest.approx(100 * (offset + beta / 100)), 2.0)
        for name, offset in (("mart", 0.5), ("trades", 0.2))
        for beta in (0.5, 1.0, 10.0)
    ]
    assert drawn == expected and output.stat().st_size > 5000


def test_every_mistake_is_one_sentence_that_names_the_folder(launch, tmp_path):
    whole = write_log(tmp_path / "whole", [1.0])
    lacking = write_log(tmp_path / "lacking", [1.0, 2.0], loss=None)
    empty = tmp_path / "empty"
    empty.mkdir()
    words = {"a": ({"method": "mart"}, 0.5, [[1.0]]), "b": ({"method": "nap"}, 0.4, [[1.0]])}
    methods = write_sweep(tmp_path / "methods", words)
    values = {"a": ({"beta": "1"}, 0.5, [[1.0]]), "b": ({"beta": "2"}, 0.4, [[1.0]])}
    betas = write_sweep(tmp_path / "betas", values)
    for arguments, message in (
        ([], "--workdirs is not given"),
        (["--kind=sweep"], "--sweep_dirs is not given"),
        (["--kind=sweep", f"--sweep_dirs={betas}", f"--workdirs={whole}"], "--workdirs: "),
        ([f"--workdirs={whole},{whole}"], "is given twice"),
        ([f"--workdirs={whole},{empty}"], f"{empty} has no complete epoch"),
        ([f"--workdirs={whole},{lacking}"], f"{lacking}: epoch 1 in its metrics.jsonl has no 'l"),
        (["--kind=sweep", f"--sweep_dirs={empty}"], f"{empty} has no sweep.json"),
        (["--kind=sweep", f"--sweep_dirs={betas},{methods}"], "betas: beta, methods: none"),
        (["--kind=sweep", "--x=tau", f"--sweep_dirs={betas}"], "without a number for 'tau'"),
        ([f"--workdirs={whole}", "--output=figure.pdf"], "--output=figure.pdf: accepted is"),
    ):
        code, printed = launch(*arguments)
        assert code == 1 and message in printed.err, printed.err
        assert printed.err.startswith("error: ") and "Traceback" not in printed.err
    assert not list(tmp_path.rglob("*.png"))
