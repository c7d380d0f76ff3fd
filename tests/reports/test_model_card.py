"""What goes with weights: the figures of a leaderboard's entry are of the whole test set alone."""

import pytest

from robustjax.config import TrainConfig
from robustjax.reports.model_card import Exported, model_card, robustbench_entry
from robustjax.runs.folder import RunFolder

CONFIG = TrainConfig(method="trades", dataset="digits", model="digits_cnn", epsilon=0.1)
EXPORTED = Exported("w.safetensors", "0", "trades", {}, 10, 1000, step=8, averaged=False)


def run(**changed):
    evaluation = {
        "clean_accuracy": 0.9,
        "interval_95": [0.8, 0.95],
        "attacks": {"autoattack": {"robust_accuracy": 0.5, "interval_95": [0.4, 0.6]}},
        "examples": 360,
        "available_examples": 360,
        "dataset": "digits test",
        "checkpoint": {"kind": "best", "step": 8, "moving_average": False},
    }
    return RunFolder("run", "run", {}, evaluation={**evaluation, **changed})


def figures(found):
    entry = robustbench_entry(CONFIG, found, EXPORTED)
    return entry["clean_acc"], entry["autoattack_acc"]


def test_an_entry_has_the_figures_of_the_whole_test_set():
    assert figures(run()) == ("90.00", "50.00")


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset": "digits train"},
        {"dataset": "mnist test"},
        {"examples": 100},
        {"checkpoint": {"kind": "latest", "step": 9, "moving_average": False}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_of_anything_else_it_has_none(changed):
    assert figures(run(**changed)) == (None, None)


def test_a_card_says_which_images_its_figures_are_of():
    assert "Images: digits train." in model_card(CONFIG, run(dataset="digits train"), EXPORTED)
