"""Checkpoints that are some epochs apart: which are kept, the best, and where a run goes on."""

import signal

import jax
import numpy as np
import pytest

from robustjax.config import TrainConfig
from robustjax.runs.checkpoint import Checkpoints
from robustjax.runs.log import read_rows
from robustjax.training import load_run, loop, train

STEPS = 4
"""Of an epoch."""


def config(workdir, **changes):
    options = {
        "method": "natural", "model": "digits_cnn", "dataset": "digits", "train_examples": 292,
        "holdout": 36, "batch_size": 64, "epsilon": 0.1, "measure_steps": 1, "measure_examples": 36,
        "epochs": 5, "checkpoint_every": 2, "learning_rate": 0.02, "schedule": "constant",
        "devices": 1, "workdir": str(workdir),
    }  # fmt: skip
    return TrainConfig(**{**options, **changes})


def saved(workdir):
    with Checkpoints(workdir / "checkpoints", keep_best=True, read_only=True) as checkpoints:
        return [step / STEPS for step in checkpoints.steps()]


def without_times(rows):
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(config(tmp_path_factory.mktemp("run") / "unbroken"), stream=None)


def test_every_second_epoch_and_the_last_are_saved_and_the_best_is_one_of_them(unbroken):
    rows = read_rows(unbroken.workdir / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert set(saved(unbroken.workdir)) - {2} == {4, 5}
    accuracy = {row["epoch"]: row["holdout_robust_accuracy"] for row in rows}
    best = load_run(unbroken.workdir, "best").step // STEPS
    assert best in (2, 4, 5) and accuracy[best] == max(accuracy[epoch] for epoch in (2, 4, 5))


def test_a_killed_run_goes_on_from_the_last_saved_epoch_and_forgets_the_later_rows(
    unbroken, tmp_path
):
    class Killed(BaseException):
        pass

    def kill(row):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(config(tmp_path), stream=None, after_epoch=kill)
    assert [row["epoch"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert saved(tmp_path) == [2]
    seen = []
    resumed = train(
        config(tmp_path),
        stream=None,
        after_epoch=lambda row: seen.append(
            [row["epoch"] for row in read_rows(tmp_path / "metrics.jsonl")]
        ),
    )
    assert seen == [[1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert [row["epoch"] for row in resumed.rows] == [3, 4, 5]
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert without_times(rows) == without_times(unbroken.rows)


@pytest.mark.parametrize("stop_at", [STEPS, STEPS + 1], ids=["after an epoch", "within one"])
def test_a_signal_saves_between_two_checkpoints(unbroken, tmp_path, monkeypatch, stop_at):
    dispatch = loop._Run._dispatch

    def signalled(self, index):
        loss = dispatch(self, index)
        if self.step == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_dispatch", signalled)
        stopped = train(config(tmp_path), stream=None)
    assert not stopped.finished and saved(tmp_path) == [stop_at / STEPS]
    # The end of an epoch has been measured, so that it can be the best.
    with Checkpoints(tmp_path / "checkpoints", keep_best=True, read_only=True) as checkpoints:
        measured = checkpoints.best_step()
    assert measured == (STEPS if stop_at == STEPS else None)
    resumed = train(config(tmp_path), stream=None)
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)


def test_another_interval_is_no_other_run_and_0_is_refused(unbroken):
    again = train(config(unbroken.workdir, checkpoint_every=1), stream=None)
    assert again.finished and again.rows == []
    with pytest.raises(ValueError, match="checkpoint_every=0: accepted are whole numbers, 1 to"):
        config(unbroken.workdir, checkpoint_every=0)
