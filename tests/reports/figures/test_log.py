"""Curves from the logs of runs."""

import csv

import matplotlib.image
import pytest

from robustjax.files import Path
from robustjax.reports.figures import canvas as figures
from robustjax.reports.figures import log as log_figures
from robustjax.reports.figures.log import LoggedRun


def log(folder, *epochs, holdout=0.4, **changed):
    rows = [
        {
            "epoch": epoch,
            "loss": 1 / epoch,
            "train_clean_accuracy": 0.9,
            "train_robust_accuracy": 0.7,
            "holdout_clean_accuracy": holdout,
            "holdout_robust_accuracy": holdout,
            "mean_backward_passes": 5.0,
            **changed,
        }
        for epoch in epochs
    ]
    return LoggedRun(Path(folder), rows)


def drawn(path, figure):
    with open(path.with_suffix(".csv")) as file:
        return [row for row in csv.DictReader(file) if row["figure"] == figure]


def test_accuracies_are_the_hold_outs_only_if_every_run_has_one(tmp_path):
    path = tmp_path / "curves.png"
    log_figures.curves_of_runs({"a": [log("a", 1, 2)], "b": [log("b", 1)]}, path)
    assert {row["value"] for row in drawn(path, "holdout_robust_accuracy")} == {"40.0"}
    log_figures.curves_of_runs({"a": [log("a", 1, 2)], "b": [log("b", 1, holdout=None)]}, path)
    assert drawn(path, "holdout_robust_accuracy") == []
    rows = drawn(path, "train_robust_accuracy")
    assert {row["run"] for row in rows} == {"a", "b"} and {row["value"] for row in rows} == {"70.0"}


def test_seeds_are_drawn_over_the_epochs_that_all_have(tmp_path):
    path = tmp_path / "passes.png"
    runs = [log("a", 1, 2, mean_backward_passes=2.0), log("b", 1, mean_backward_passes=4.0)]
    log_figures.backward_passes_of_runs({"fat": runs}, path)
    rows = drawn(path, "mean_backward_passes")
    assert [(row["epoch"], float(row["value"])) for row in rows] == [("1", 3.0)]
    assert float(rows[0]["deviation"]) == pytest.approx(2**0.5)


def test_lines_have_pixels_of_their_own_colours(tmp_path):
    path = tmp_path / "passes.png"
    runs = {name: [log(name, 1, 2, 3)] for name in ("a", "b", "c")}
    log_figures.backward_passes_of_runs(runs, path)
    image = (255 * matplotlib.image.imread(path)).round().astype(int)[..., :3].reshape(-1, 3)
    found = {tuple(pixel) for pixel in image.tolist()}
    # matplotlib's first three colours; the last line is on top of the others.
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44)} <= found


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (LoggedRun(Path("runs/x"), []), "runs/x: its metrics.jsonl has no complete epoch"),
        (log("runs/x", 4, loss=None), "runs/x: epoch 4 in its metrics.jsonl has no 'loss'"),
    ],
)
def test_a_log_that_lacks_something_is_named(tmp_path, run, message):
    with pytest.raises(ValueError) as error:
        log_figures.curves_of_runs({"x": [run]}, tmp_path / "figure.png")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["r$x^$b", "a$b", "$\\nothing$"])
def test_dollar_signs_in_a_name_are_no_formula(tmp_path, name):
    drawn = figures.compare_runs({name: {"clean": 0.5}}, Path(tmp_path) / "a.png", name)
    assert drawn.read_bytes().startswith(b"\x89PNG")
