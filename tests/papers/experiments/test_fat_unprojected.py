"""FAT's search without the projection: its distances, its figures and (slow) the whole in small."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from robustjax import training
from robustjax.files import Path
from robustjax.papers.experiments import fat_unprojected, registry
from robustjax.papers.experiments.fat_unprojected import ATTACKS, STANDARD, Settings
from robustjax.training import whole_run

SMALL = ["steps=2", "epochs=1", "batch_size=256", "examples=60", "step_sizes=0.02,0.3", "taus=0"]


@pytest.fixture(scope="module")
def friendly_run(tmp_path_factory):
    """A network that FAT trained for two epochs, without the projection."""
    folder = Path(tmp_path_factory.mktemp("friendly") / "run")
    settings = Settings(epochs=2, steps=3, batch_size=128)
    training.train(fat_unprojected._config(settings, folder, 1, 0.06), None)
    return training.load_run(folder, "latest")


def test_a_run_searches_without_the_ball_and_the_standard_one_within_it(tmp_path):
    settings = Settings(epochs=8)
    friendly = fat_unprojected._config(settings, tmp_path, 3, 0.05)
    assert friendly.hyperparameters() == {"tau": 3, "projection": False}
    standard = fat_unprojected._config(settings, tmp_path, None, 0.05)
    assert standard.method == "standard" and standard.hyperparameters() == {}
    for config in (friendly, standard):
        assert (config.step_size, config.epsilon, config.decay_epochs) == (0.05, 0.15, (6.0,))


def test_the_distance_is_that_of_equation_6_step_by_step(friendly_run):
    config = friendly_run.config
    found = fat_unprojected.distances(friendly_run, examples=70)
    train_set, _ = training.create_train_set(config)
    sample = train_set.sample(70)
    model = training.create_model(config, 10)

    @jax.jit
    def slope(images, labels):
        def total(images):
            logits = model.apply(friendly_run.variables, images, train=False)
            return -jax.nn.log_softmax(logits)[np.arange(70), labels].sum(), logits

        gradient, logits = jax.grad(total, has_aux=True)(images)
        return gradient, logits

    clean = x = sample.images / np.float32(255)
    left, passes, stopped = np.ones(70, int), np.zeros(70, int), np.zeros(70, bool)
    for _ in range(3):
        gradient, logits = slope(x, sample.labels)
        wrong = np.argmax(logits, axis=1) != sample.labels
        stopped |= wrong & (left == 0)
        left -= wrong
        moved = np.clip(x + 0.06 * np.sign(gradient), 0, 1)
        x = np.where(stopped[:, None, None, None], x, moved)
        passes += ~stopped
    distance = np.abs(x - clean).max(axis=(1, 2, 3))
    assert 0 < stopped.sum() < 70
    np.testing.assert_allclose(found["passes"], passes.mean(), atol=0.05)
    np.testing.assert_allclose(found["distance"], distance.mean(), atol=2e-3)
    np.testing.assert_allclose(found["largest_distance"], distance.max(), atol=1e-5)
    assert found["largest_distance"] > config.epsilon


def test_the_figures_hold_what_was_measured(tmp_path):
    def measured(shift):
        accuracies = {name: 0.9 - 0.1 * place for place, name in enumerate(ATTACKS)}
        return {
            **accuracies, "pgd-20, 2ε": 0.1 + shift, "distance": 0.2 + shift,
            "largest_distance": 0.5, "passes": 3.25,
        }  # fmt: skip

    found = {
        STANDARD: {"0.01": measured(0), "0.02": measured(0.01)},
        "tau=0": {"0.01": measured(0.02), "0.02": measured(0.03)},
    }
    fat_unprojected.draw_accuracy(found, Path(tmp_path / "accuracy.png"))
    fat_unprojected.draw_distance(found, 0.15, Path(tmp_path / "distance.png"))
    for name in ("accuracy", "distance"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    with open(tmp_path / "distance.csv") as file:
        rows = list(csv.reader(file))[1:]
    assert [(row[0], float(row[1])) for row in rows] == [
        (STANDARD, 0.01), (STANDARD, 0.02), ("tau=0", 0.01), ("tau=0", 0.02)
    ]  # fmt: skip
    np.testing.assert_allclose([float(row[2]) for row in rows], [0.2, 0.21, 0.22, 0.23])
    with open(tmp_path / "accuracy.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 6
    doubled = [float(row["accuracy"]) for row in rows if row["attack"] == "pgd-20, 2ε"]
    np.testing.assert_allclose(doubled, [10, 11, 12, 13])
    page = fat_unprojected.to_markdown({"epsilon": 0.15, "found": found})
    assert (
        "| tau=0 | 0.02 | 90.0 | 80.0 | 70.0 | 60.0 | 50.0 | 13.0 | 0.230 | 0.500 | 3.25 |" in page
    )


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("taus=0,0.5", "taus=0,0.5: accepted are different whole numbers, 0 or more"),
        ("taus=1,1", "taus=1,1: accepted are different whole numbers"),
        ("step_sizes=", "step_sizes=: accepted are different numbers, 0 or more"),
        ("step_sizes=0.1,-0.1", "step_sizes=0.1,-0.1: accepted are different numbers"),
    ],
)
def test_mistakes_are_named(assignment, message):
    with pytest.raises(ValueError, match=message):
        registry.settings("fat_unprojected", [assignment])


def test_a_run_that_a_signal_stopped_is_not_measured(tmp_path, monkeypatch):
    def train(config, stream):
        return training.TrainResult(Path(config.workdir), None, [], finished=False)

    monkeypatch.setattr(whole_run, "train", train)
    monkeypatch.setattr(fat_unprojected, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(training.TrainingError, match=r"standard-step_size=0\.015 was stopped"):
        fat_unprojected.run(Settings(), Path(tmp_path), lambda line: None)


def test_step_sizes_may_be_fractions():
    chosen = registry.settings("fat_unprojected", ["step_sizes=1/255,0.02", "taus=2"])
    assert fat_unprojected._numbers("step_sizes", chosen.step_sizes) == [1 / 255, 0.02]
    assert dataclasses.asdict(chosen)["taus"] == "2"


@pytest.mark.slow
def test_the_whole_experiment_in_small(tmp_path):
    settings = registry.settings("fat_unprojected", SMALL)
    lines = []
    registry.run("fat_unprojected", settings, Path(tmp_path), lines.append)
    numbers = json.loads((tmp_path / "fat_unprojected.json").read_text())["numbers"]
    found = numbers["found"]
    assert {search: list(values) for search, values in found.items()} == {
        STANDARD: ["0.02", "0.3"], "tau=0": ["0.02", "0.3"],
    }  # fmt: skip
    for measured in (entry for values in found.values() for entry in values.values()):
        assert measured["clean"] >= measured["pgd-20"] >= measured["pgd-20, 2ε"]
    assert found[STANDARD]["0.3"]["largest_distance"] <= settings.epsilon + 1e-6
    assert found["tau=0"]["0.3"]["largest_distance"] > 1.5 * settings.epsilon
    assert len(lines) == 5
    for name in ("fat_unprojected_figures_9_10", "fat_unprojected_distance"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
