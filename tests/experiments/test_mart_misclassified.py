"""MART's figure 1: which examples are chosen, and (slow) the whole experiment in small."""

import json

import numpy as np
import pytest

from robustjax import data, training
from robustjax.experiments import mart_misclassified, registry
from robustjax.files import Path

SMALL = ["selection_epochs=2", "epochs=1", "steps=1", "batch_size=128"]


@pytest.fixture(scope="module")
def selector(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("selector") / "run")
    settings = mart_misclassified.Settings(steps=1, batch_size=128)
    training.train(mart_misclassified._config(settings, folder, method="standard", epochs=2), None)
    return folder


def test_what_the_network_misclassifies_is_chosen_and_as_much_that_it_does_not(selector):
    chosen = mart_misclassified.choose(selector, seed=0)
    run = training.load_run(selector, "latest")
    train_set, _ = training.create_train_set(run.config)
    model = training.create_model(run.config, 10)
    logits = model.apply(run.variables, train_set.images / np.float32(255), train=False)
    wrong = np.argmax(logits, -1) != train_set.labels
    np.testing.assert_array_equal(chosen["misclassified"], wrong)
    assert chosen["correct"].sum() == wrong.sum() > 0
    assert not np.any(chosen["correct"] & wrong)
    again = mart_misclassified.choose(selector, seed=0)
    other = mart_misclassified.choose(selector, seed=1)
    np.testing.assert_array_equal(chosen["correct"], again["correct"])
    assert np.any(chosen["correct"] != other["correct"])
    assert len(train_set) < len(data.load("digits", "train"))


@pytest.mark.slow
def test_the_whole_figure_in_small(tmp_path):
    settings = registry.settings("mart_misclassified", SMALL)
    lines = []
    registry.run("mart_misclassified", settings, Path(tmp_path), lines.append)
    content = json.loads((tmp_path / "mart_misclassified.json").read_text())
    curves = content["numbers"]["robust_accuracy"]
    assert len(curves) == 7 and all(len(values) == 1 for values in curves.values())
    assert (tmp_path / "mart_misclassified_figure_1.png").stat().st_size > 5000
    assert "standard adversarial training" in (tmp_path / "mart_misclassified.md").read_text()
    assert len(lines) == 8
