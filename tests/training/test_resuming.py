"""A run goes on as if it had never stopped, on its own data, in a folder that is its alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from robustjax import data, methods
from robustjax.config import TrainConfig
from robustjax.runs.lock import Lock
from robustjax.runs.log import read_rows
from robustjax.training import CheckpointError, load_run, train
from robustjax.training.experiment import create_experiment


def config(workdir, **changes):
    options = {
        "method": "natural",
        "model": "digits_cnn",
        "dataset": "digits",
        "measure_steps": 1,
        "measure_examples": 16,
        "holdout": 16,
        "epochs": 1,
        "batch_size": 256,
        "schedule": "constant",
        "learning_rate": 0.05,
        "devices": 1,
    }
    return TrainConfig(workdir=str(workdir), **{**options, **changes})


@pytest.fixture
def curriculum(monkeypatch):
    """Natural training whose curriculum reads the log; what it was told."""
    seen = []

    def told(rows):
        seen.append([(row["epoch"], row["train_robust_accuracy"]) for row in rows])
        return {"strength": float(len(rows))}

    method = dataclasses.replace(methods.create("natural"), curriculum=told)
    monkeypatch.setattr("robustjax.training.experiment.create_method", lambda config: method)
    return seen


DAMAGES = {
    "cut off": lambda text: text[: len(text) // 2],
    "another value": lambda text: json.dumps({**json.loads(text), "train_robust_accuracy": 1.0}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_what_training_depends_on_is_not_the_log(tmp_path, curriculum, damage):
    train(config(tmp_path / "run"), stream=None)
    path = tmp_path / "run" / "metrics.jsonl"
    rows = read_rows(path)
    path.write_text(damage(path.read_text()))
    curriculum.clear()
    train(config(tmp_path / "run", epochs=2), stream=None)
    told = [asked for asked in curriculum if asked]
    assert told and all(asked == [(1, rows[0]["train_robust_accuracy"])] for asked in told)
    assert read_rows(path)[:1] == rows and [row["epoch"] for row in read_rows(path)] == [1, 2]


def test_other_images_with_the_same_labels_are_other_data(tmp_path):
    digits = data.load("digits", "train")
    changed = digits.images.copy()
    changed[0, 4, 4, 0] ^= 1
    mine = {"dataset": "npz", "data_dir": str(tmp_path / "mine.npz")}
    np.savez(tmp_path / "mine.npz", images=digits.images, labels=digits.labels)
    train(config(tmp_path / "run", **mine), stream=None)
    before = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    np.savez(tmp_path / "mine.npz", images=changed, labels=digits.labels)
    with pytest.raises(ValueError, match="was trained on other data"):
        train(config(tmp_path / "run", **mine, epochs=2), stream=None)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == before
    np.savez(tmp_path / "mine.npz", images=digits.images, labels=digits.labels)
    assert train(config(tmp_path / "run", **mine, epochs=2), stream=None).finished


def test_another_hold_out_is_other_data(tmp_path):
    first, second = (
        dataclasses.replace(config(tmp_path), dataset="npz", data_dir=str(tmp_path / name))
        for name in ("a.npz", "b.npz")
    )
    digits = data.load("digits", "train")
    held_out = data.hold_out(digits, 16)[1]
    place = np.flatnonzero((digits.images == held_out.images[0]).all(axis=(1, 2, 3)))[0]
    np.savez(tmp_path / "a.npz", images=digits.images, labels=digits.labels)
    digits.images[place] ^= 1
    np.savez(tmp_path / "b.npz", images=digits.images, labels=digits.labels)
    assert (
        create_experiment(first).train_set.digest() == create_experiment(second).train_set.digest()
    )
    assert create_experiment(first).data_digest() != create_experiment(second).data_digest()


def test_two_trainings_in_one_folder(tmp_path):
    refused = pytest.raises(ValueError, match="workdir=.*/run: training goes on there already")
    with Lock(tmp_path / "run" / "training.lock", "training"), refused:
        train(config(tmp_path / "run"), stream=None)
    assert train(config(tmp_path / "run"), stream=None).finished
    assert not (tmp_path / "run" / "training.lock").exists()


def test_a_record_that_lacks_what_training_needs_is_named(tmp_path):
    result = train(config(tmp_path / "run"), stream=None)
    step = int(result.state.step)
    path = tmp_path / "run" / "checkpoints" / str(step) / "record" / "metadata"
    record = json.loads(path.read_text())
    # As the first version had it, but for one entry.
    for name in ("format", "metric", "record_digest", "rows", "elapsed_seconds"):
        record.pop(name)
    path.write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=f"checkpoint .*/{step} has .* 'elapsed_seconds'"):
        train(config(tmp_path / "run", epochs=2), stream=None)


def test_a_checkpoint_of_another_run_is_not_taken_for_this_one_s(tmp_path):
    for name, smoothing in (("mine", 0.0), ("others", 0.1)):
        train(config(tmp_path / name, label_smoothing=smoothing), stream=None)
    (step,) = (path.name for path in (tmp_path / "mine" / "checkpoints").iterdir())
    shutil.rmtree(tmp_path / "mine" / "checkpoints" / step)
    shutil.copytree(
        tmp_path / "others" / "checkpoints" / step, tmp_path / "mine" / "checkpoints" / step
    )
    message = r"is of another run, with label_smoothing=0\.1 \(here 0\)"
    with pytest.raises(CheckpointError, match=message):
        load_run(tmp_path / "mine", "latest")
    with pytest.raises(CheckpointError, match=message):
        train(config(tmp_path / "mine", epochs=2), stream=None)
    assert load_run(tmp_path / "others", "latest").step == int(step)


def test_a_checkpoint_under_another_step_s_name_is_damaged(tmp_path):
    train(config(tmp_path / "run"), stream=None)
    place = tmp_path / "run" / "checkpoints"
    (step,) = (path.name for path in place.iterdir())
    shutil.copytree(place / step, place / "999")
    with pytest.raises(CheckpointError, match=f"its record is that of step {step}"):
        load_run(tmp_path / "run", "latest")


def test_a_file_in_the_place_of_the_checkpoints_is_found_before_training(tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("flags.txt", "checkpoints"):
        (tmp_path / "run" / name).touch()
    with pytest.raises(ValueError, match="checkpoints is a file, and is to be a folder"):
        train(config(tmp_path / "run"), stream=None)
