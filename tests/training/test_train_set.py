"""What a run trains on: extra data, the first images, some classes, another run's weights."""

import dataclasses
import re

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from robustjax import data, methods
from robustjax.config import TrainConfig
from robustjax.runs.log import read_rows
from robustjax.training import create_experiment, load_run, train
from robustjax.training.train_set import TrainSet


def config(**changes):
    options = {
        "method": "natural",
        "model": "digits_cnn",
        "epsilon": 0.1,
        "steps": 1,
        "step_size": 0.05,
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.05,
        "train_examples": 96,
        "holdout": 0,
        "measure_steps": 1,
        "measure_examples": 20,
    }
    return TrainConfig(**{**options, **changes})


@pytest.fixture
def extra(tmp_path):
    """48 images without labels."""
    images = np.random.default_rng(0).integers(0, 256, (48, 8, 8, 1), dtype=np.uint8)
    path = tmp_path / "extra.npz"
    np.savez(path, images=images, labels=np.full(48, -1))
    return path


def test_the_first_images():
    made = create_experiment(config())
    np.testing.assert_array_equal(made.train_set.images, data.load("digits", "train").images[:96])
    assert made.steps_per_epoch == 3


def test_some_classes_renumbered():
    made = create_experiment(config(classes=(7.0, 3.0), train_examples=0))
    whole = data.load("digits", "train")
    chosen = np.isin(whole.labels, [3, 7])
    np.testing.assert_array_equal(made.train_set.images, whole.images[chosen])
    np.testing.assert_array_equal(made.train_set.labels, whole.labels[chosen] == 3)
    assert made.model.num_classes == made.train_set.num_classes == 2


def test_extra_examples_fill_their_share_of_each_batch_with_their_weight(extra):
    made = create_experiment(
        config(method="trades", extra_data=str(extra), extra_fraction=0.25, extra_weight=0.5)
    )
    order = made.order(0)
    assert order.shape == (4, 32)
    np.testing.assert_array_equal((order >= 96).sum(axis=1), 8)
    np.testing.assert_array_equal(made.train_set.weights, np.repeat([1, 0.5], [96, 48]))
    np.testing.assert_array_equal(np.sort(order[order < 96]), np.arange(96))
    assert np.all(made.train_set.sample(1000).labels >= 0)


@hypothesis.given(st.integers(8, 80), st.integers(0, 30), st.integers(1, 8), st.floats(0.01, 0.99))
def test_the_steps_of_an_epoch_are_counted_as_they_are_drawn(
    labelled, unlabelled, batch_size, fraction
):
    rows = labelled + unlabelled
    made = TrainSet(
        images=np.zeros((rows, 8, 8, 1), np.uint8),
        labels=np.repeat(np.int32([0, -1]), [labelled, unlabelled]),
        weights=np.ones(rows, np.float32),
        num_labelled=labelled,
        num_classes=10,
    )
    options = config(batch_size=batch_size, extra_fraction=fraction)
    try:
        drawn = len(made.epoch_order(options, 0))
    except ValueError as refusal:
        with pytest.raises(ValueError, match=re.escape(str(refusal))):
            made.steps_per_epoch(options)
        return
    assert made.steps_per_epoch(options) == drawn


def test_an_experiment_is_made_without_drawing_an_order(extra, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("robustjax.data.batches._shuffled", None)
        mixed = create_experiment(config(method="trades", extra_data=str(extra)))
        replayed = create_experiment(config(method="free", batch_size=40, train_examples=95))
    for made in (mixed, replayed):
        assert made.steps_per_epoch == len(made.order(0))


def test_a_method_that_needs_labels_refuses_examples_without(extra):
    with pytest.raises(ValueError, match="examples without a label, which method=natural"):
        create_experiment(config(extra_data=str(extra)))


@pytest.mark.parametrize("options", [{"mixing": "cutmix"}, {"label_smoothing": 0.1}])
def test_a_loss_that_needs_hard_labels_refuses_soft_ones_by_name(options):
    changed = dataclasses.replace(config(set=("loss=bce",)), **options)
    name, value = next(iter(options.items()))
    with pytest.raises(ValueError, match=f"{name}={value}: method=natural as it is set needs"):
        create_experiment(changed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_schedule": "1,5@3", "steps": 4}, "steps_schedule=1,5@3: 5 is more than steps"),
        ({"classes": (3.0,)}, "classes=3"),
        ({"train_examples": 10**6}, "train_examples=1000000"),
        ({"batch_size": 100}, "batch_size=100: there are only 96"),
        ({"init_from": "nowhere"}, "init_from=nowhere holds no run: accepted is the folder of"),
        ({"extra_data": "nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    options, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        train(config(workdir=str(tmp_path / "run"), **options), stream=None)
    assert not (tmp_path / "run").exists()


def test_epsilon_and_k_follow_their_schedules():
    made = create_experiment(
        config(epsilon_schedule="0..0.2@4", steps_schedule="0,1@1", awp_gamma=0.01,
               awp_warmup_epochs=2)
    )  # fmt: skip
    for epoch, epsilon, steps, gamma in ((0, 0, 0, 0), (1, 0.05, 1, 0), (2, 0.1, 1, 0.01)):
        expected = {"epsilon": epsilon, "step_size": 0.05, "steps": steps, "awp_gamma": gamma}
        assert made.scalars_at(3 * epoch) == pytest.approx(expected)


def test_training_begins_with_the_weights_of_another_run_and_resumes_without_it(tmp_path):
    first = train(config(workdir=str(tmp_path / "first")), stream=None)
    options = config(workdir=str(tmp_path / "second"), init_from=str(tmp_path / "first"))
    start = create_experiment(
        options, pretrained=load_run(tmp_path / "first").variables
    ).initial_state()
    for one, other in zip(
        jax.tree.leaves(first.state.params), jax.tree.leaves(start.params), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    slow = dataclasses.replace(options, learning_rate=1e-9)
    second = train(slow, stream=None)
    distance = max(
        np.abs(one - other).max()
        for one, other in zip(
            jax.tree.leaves(first.state.params), jax.tree.leaves(second.state.params), strict=True
        )
    )
    assert distance < 1e-6
    (tmp_path / "first").rename(tmp_path / "gone")
    resumed = train(dataclasses.replace(slow, epochs=2), stream=None)
    assert resumed.finished and int(resumed.state.step) == 6


def test_the_weights_of_another_network_are_refused(tmp_path):
    train(config(workdir=str(tmp_path / "first")), stream=None)
    with pytest.raises(ValueError, match="init_from=.*first holds another network: .*bias"):
        train(
            config(
                workdir=str(tmp_path / "second"), init_from=str(tmp_path / "first"), classes=(3, 7),
                train_examples=0,
            ),
            stream=None,
        )  # fmt: skip
    assert not (tmp_path / "second").exists()


def test_replays_repeat_each_batch_and_a_curriculum_reads_the_log(tmp_path, monkeypatch):
    seen = []

    def curriculum(rows):
        seen.append([row["epoch"] for row in rows])
        return {"strength": float(len(rows))}

    method = dataclasses.replace(methods.create("natural"), replays=2, curriculum=curriculum)
    monkeypatch.setattr("robustjax.training.experiment.create_method", lambda config: method)
    made = create_experiment(config())
    assert made.steps_per_epoch == 6
    np.testing.assert_array_equal(made.order(0)[::2], made.order(0)[1::2])
    train(config(workdir=str(tmp_path / "run")), stream=None)
    train(config(workdir=str(tmp_path / "run"), epochs=2), stream=None)
    assert [row["step"] for row in read_rows(tmp_path / "run" / "metrics.jsonl")] == [6, 12]
    asked = [epochs for epochs in seen if epochs]
    assert asked == [[1]] * 6
