"""evaluation.json, evaluation.md and the figures."""

import json

import matplotlib.image
import numpy as np
import pytest

from robustjax import evaluation, reports
from robustjax.evaluation import AttackScore


@pytest.fixture
def summary():
    clean = np.array([1, 1, 1, 0], bool)
    return evaluation.summarize(
        {
            "clean": AttackScore(clean, {}),
            "pgd-20": AttackScore(np.array([1, 1, 0, 0], bool), {"steps": 20, "epsilon": 0.1}),
            "cw-30": AttackScore(np.array([1, 0, 1, 0], bool), {"steps": 30, "epsilon": 0.1}),
        },
        seed=3,
    )


def test_the_worst_case_counts_an_example_only_if_it_withstands_all(summary):
    assert summary["clean_accuracy"] == 0.75
    assert summary["attacks"]["pgd-20"]["robust_accuracy"] == 0.5
    assert summary["attacks"]["cw-30"]["robust_accuracy"] == 0.5
    assert summary["worst_case_robust_accuracy"] == 0.25
    assert summary["examples"] == 4 and summary["seed"] == 3
    assert {"jax", "flax", "python", "device", "robustjax"} <= set(summary["versions"])


def test_both_files_say_the_same(summary, tmp_path):
    json_path, markdown_path = reports.write_report(summary, tmp_path)
    assert json.loads(json_path.read_text()) == json.loads(json.dumps(summary))
    text = markdown_path.read_text()
    assert "| clean | 75.00 % |" in text
    assert "| pgd-20 | 50.00 % | " in text and "steps 20, epsilon 0.1 |" in text
    assert "| worst case | 25.00 % |" in text
    assert "* seed: 3" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "evaluation.md"]


def test_the_table_for_a_terminal_is_aligned(summary):
    lines = reports.to_table(summary).splitlines()
    assert [line.split()[0] for line in lines] == ["clean", "pgd-20", "cw-30", "worst"]
    assert len({line.index("%") for line in lines}) == 1


def test_without_attacks_there_is_no_worst_case():
    summary = evaluation.summarize({"clean": AttackScore(np.ones(3, bool), {})})
    assert summary["attacks"] == {} and "worst_case_robust_accuracy" not in summary
    assert "worst" not in reports.to_markdown(summary)


ROW = {
    "train_clean_accuracy": 0.9,
    "train_robust_accuracy": 0.5,
    "holdout_clean_accuracy": None,
    "holdout_robust_accuracy": None,
}


def colours(path):
    image = np.round(255 * matplotlib.image.imread(path)).astype(int)
    return image.shape, {tuple(pixel) for pixel in image.reshape(-1, 4)[:, :3].tolist()}


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def test_training_curves_show_what_was_measured(tmp_path):
    rows = [{"epoch": epoch, "loss": 1 / epoch, **ROW} for epoch in (1, 2, 3)]
    path = reports.training_curves(rows, tmp_path / "figures" / "training.png", "a run")
    shape, found = colours(path)
    assert shape[0] > 300 and shape[1] > 800
    assert BLUE in found and ORANGE in found


def test_bars_of_several_runs(tmp_path):
    accuracies = {
        "natural": {"clean": 0.98, "PGD-20": 0.1},
        "trades": {"clean": 0.95, "PGD-20": 0.7},
    }
    path = reports.compare_runs(accuracies, tmp_path / "bars.png", "title")
    shape, found = colours(path)
    assert shape[0] > 300 and BLUE in found and ORANGE in found


@pytest.mark.parametrize(
    ("accuracies", "message"),
    [
        ({}, "accuracies={}: accepted are those of at least one run"),
        (None, "accuracies=None: accepted are"),
        ({"a": {}}, "accuracies of a="),
        ({"a": {"clean": 1.0}, "b": {"PGD-20": 1.0}}, r"accuracies of b=\['PGD-20'\]: accepted"),
        ({"a": {"clean": float("nan")}}, "accuracy of a under clean=nan: accepted are"),
    ],
)
def test_bars_that_cannot_be_are_named(accuracies, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        reports.compare_runs(accuracies, tmp_path / "bars.png", "title")
