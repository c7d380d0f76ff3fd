"""MART's figure 1: which examples are chosen, and (slow) the whole experiment in small."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import data, training
from robustjax.files import Path
from robustjax.papers.experiments import mart_misclassified, registry

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


def test_each_of_the_seven_runs_treats_one_subset_apart_and_nothing_else(monkeypatch, tmp_path):
    subsets = {
        "misclassified": np.array([True, False, False, True]),
        "correct": np.array([False, True, True, False]),
    }
    trained, selectors = {}, []

    def train(config, stream):
        trained[Path(config.workdir).name] = config

    def choose(selector, seed):
        selectors.append(selector.name)
        return subsets

    def read_rows(path):
        # The accuracy after the last epoch tells the runs apart.
        last = 0.5 + 0.01 * list(trained).index(path.parent.name)
        return [{"holdout_robust_accuracy": value} for value in (0.1, 0.3, last)]

    monkeypatch.setattr(training, "train_to_the_end", train)
    monkeypatch.setattr(training, "read_rows", read_rows)
    monkeypatch.setattr(mart_misclassified, "choose", choose)
    settings = mart_misclassified.Settings(selection_epochs=3, epochs=9, beta=2.5)
    numbers = mart_misclassified.run(settings, Path(tmp_path), lambda line: None)

    assert selectors == ["selector"]
    assert trained["selector"].epochs == 3 and trained["standard"].epochs == 9
    assert trained["selector"].method == trained["standard"].method == "standard"
    assert len(trained) == 1 + 1 + 2 * 3
    shared = ("dataset", "model", "epsilon", "steps", "step_size", "seed", "schedule", "epochs")
    for subset, chosen in subsets.items():
        for treatment in ("unperturbed", "fgsm", "regularised"):
            config = trained[f"{subset}_{treatment}"]
            given = training.create_method(config)
            assert given.name == "mart_subset" and given.scalars == {"beta": 2.5}
            options = dict(text.split("=", 1) for text in config.set)
            assert options["treatment"] == treatment
            np.testing.assert_array_equal(np.load(options["subset"])["chosen"], chosen)
            for name in shared:
                assert getattr(config, name) == getattr(trained["standard"], name)
    assert numbers["chosen"] == {"misclassified": 2, "correct": 2} and numbers["examples"] == 4
    assert set(numbers["robust_accuracy"]) == set(trained) - {"selector"}
    assert numbers["robust_accuracy"]["standard"] == [0.1, 0.3, 0.51]
    # In the order of training: of the misclassified 52 to 54 %, of the correct 55 to 57 %.
    table = mart_misclassified.to_markdown(numbers)
    for row in (
        "| unperturbed | 52.0 | 55.0 |",
        "| fgsm | 53.0 | 56.0 |",
        "| regularised | 54.0 | 57.0 |",
        "| none (standard adversarial training) | 51.0 | 51.0 |",
    ):
        assert row in table
    assert (tmp_path / "mart_misclassified_figure_1.png").stat().st_size > 5000


class Brightness:
    """A network: class 0 is dark, class 1 is bright."""

    @staticmethod
    def apply(variables, images, train):
        return jax.nn.one_hot((jnp.mean(images, axis=(1, 2, 3)) > 0.5).astype(int), 2)


@pytest.mark.parametrize("right", [0, 2, 5])
def test_subsets_that_cannot_be_drawn_equally_large_are_refused(right, monkeypatch):
    labels = np.zeros(5, np.int32)
    images = np.zeros((5, 8, 8, 1), np.uint8)
    images[right:] = 255
    run = SimpleNamespace(config=None, variables={})
    train_set = training.TrainSet(images, labels, np.ones(5, np.float32), 5, 2)
    monkeypatch.setattr(training, "load_run", lambda folder, checkpoint: run)
    monkeypatch.setattr(training, "create_train_set", lambda config: (train_set, None))
    monkeypatch.setattr(training, "create_model", lambda config, classes: Brightness)
    wrong = 5 - right
    with pytest.raises(ValueError, match=f"misclassifies {wrong} of 5 training examples; set"):
        mart_misclassified.choose(Path("run"), seed=0)


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
