"""Training from end to end on the embedded digits: logs, resuming, stopping, errors."""

import dataclasses
import io
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from robustjax import data
from robustjax.config import TrainConfig
from robustjax.runs.log import read_rows
from robustjax.training import CheckpointError, TrainingError, load_run, train

KEYS = {
    "epoch",
    "step",
    "loss",
    "train_clean_accuracy",
    "train_robust_accuracy",
    "holdout_clean_accuracy",
    "holdout_robust_accuracy",
    "learning_rate",
    "mean_backward_passes",
    "images_per_second",
    "elapsed_seconds",
}


def config(workdir, **changes):
    options = {
        "method": "standard",
        "model": "digits_cnn",
        "dataset": "digits",
        "epsilon": 0.1,
        "steps": 2,
        "step_size": 0.05,
        "measure_steps": 2,
        "measure_examples": 64,
        "holdout": 64,
        "epochs": 2,
        "batch_size": 256,
        "learning_rate": 0.05,
        "schedule": "constant",
        "devices": 1,
    }
    return TrainConfig(workdir=str(workdir), **{**options, **changes})


def without_times(row):
    return {key: value for key, value in row.items() if not key.endswith(("_seconds", "_second"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    return train(config(folder), stream=None)


def test_one_row_an_epoch_with_every_key(unbroken):
    rows = read_rows(unbroken.workdir / "metrics.jsonl")
    assert rows == unbroken.rows and [row["epoch"] for row in rows] == [1, 2]
    for row in rows:
        assert set(row) == KEYS
        for key in KEYS:
            if key.endswith("accuracy"):
                assert 0 <= row[key] <= 1
        assert row["train_robust_accuracy"] <= row["train_clean_accuracy"]
        assert row["holdout_robust_accuracy"] <= row["holdout_clean_accuracy"]
        assert row["mean_backward_passes"] == 2
        assert row["images_per_second"] > 0
    assert rows[1]["loss"] < rows[0]["loss"]
    assert rows[1]["elapsed_seconds"] > rows[0]["elapsed_seconds"] > 0
    assert rows[1]["step"] == 2 * ((1437 - 64) // 256)


def test_the_folder_holds_what_is_promised(unbroken):
    names = {path.name for path in unbroken.workdir.iterdir()}
    assert names == {"flags.txt", "metrics.jsonl", "checkpoints"}


def test_what_a_method_remembers_of_the_examples_is_resumed(tmp_path):
    options = {
        "method": "iaat", "set": ("fixed_epsilon_epochs=1", "growth=0.05"), "train_examples": 192,
        "batch_size": 64, "steps": 1, "measure_steps": 1,
    }  # fmt: skip
    train(config(tmp_path, **options, epochs=1), stream=None)
    state = train(config(tmp_path, **options), stream=None).state
    radius = 0.1 * np.asarray(state.memory["share"])
    # From the warm-up's radius, one step of 0.1 times growth or as far towards 0 as it goes.
    distance = np.abs(radius[:, None] - [0.105, 0.1, 0.095, 0.09]).min(axis=1)
    assert radius.shape == (128,) and np.all(distance < 1e-6) and len(set(radius.round(4))) > 1


def test_resuming_a_finished_run_changes_nothing(unbroken):
    again = train(config(unbroken.workdir), stream=None)
    assert again.finished and again.rows == []
    jax.tree.map(np.testing.assert_array_equal, again.state, unbroken.state)


def test_more_epochs_end_where_one_longer_run_ends(unbroken, tmp_path):
    train(config(tmp_path / "run", epochs=1), stream=None)
    stream = io.StringIO()
    longer = train(config(tmp_path / "run", epochs=2), stream)
    assert "resuming" in stream.getvalue()
    jax.tree.map(np.testing.assert_array_equal, longer.state, unbroken.state)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    expected = read_rows(unbroken.workdir / "metrics.jsonl")
    assert list(map(without_times, rows)) == list(map(without_times, expected))


def test_a_signal_saves_in_the_middle_of_an_epoch_and_the_run_goes_on(
    unbroken, tmp_path, monkeypatch
):
    from robustjax.training import loop

    dispatch, calls = loop._Run._dispatch, []

    def counted(self, index):
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(signal.SIGTERM)
        return dispatch(self, index)

    assert threading.current_thread() is threading.main_thread()
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "_dispatch", counted)
        stopped = train(config(tmp_path / "run"), stream=None)
    assert not stopped.finished
    assert int(stopped.state.step) == 7 and len(stopped.rows) == 1
    resumed = train(config(tmp_path / "run"), stream=None)
    assert resumed.finished
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert list(map(without_times, rows)) == list(map(without_times, unbroken.rows))


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_used(unbroken, tmp_path):
    train(config(tmp_path / "run"), stream=None)
    newest = tmp_path / "run" / "checkpoints" / str(unbroken.rows[-1]["step"])
    files = [path for path in newest.rglob("*") if path.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    stream = io.StringIO()
    resumed = train(config(tmp_path / "run"), stream)
    assert "trying the one before it" in stream.getvalue()
    assert len(resumed.rows) == 1
    jax.tree.map(np.testing.assert_array_equal, resumed.state, unbroken.state)


def test_other_options_are_refused_and_the_run_is_left_as_it_was(unbroken):
    before = (unbroken.workdir / "flags.txt").read_text()
    with pytest.raises(ValueError, match=r"epsilon=0.2 \(was 0.1\)"):
        train(config(unbroken.workdir, epsilon=0.2), stream=None)
    assert (unbroken.workdir / "flags.txt").read_text() == before


def test_the_best_and_the_latest_can_be_loaded(unbroken):
    latest = load_run(unbroken.workdir, "latest")
    assert latest.step == unbroken.rows[-1]["step"] and not latest.averaged
    assert dataclasses.replace(latest.config, devices=1) == config(unbroken.workdir)
    jax.tree.map(np.testing.assert_array_equal, latest.variables["params"], unbroken.state.params)
    best = max(unbroken.rows, key=lambda row: row["holdout_robust_accuracy"])
    assert load_run(unbroken.workdir, "best").step == best["step"]
    with pytest.raises(ValueError, match="checkpoint=newest: accepted are best, latest"):
        load_run(unbroken.workdir, "newest")
    with pytest.raises(ValueError, match="holds no run"):
        load_run(unbroken.workdir / "checkpoints")


def test_without_a_hold_out_the_accuracy_is_null_and_the_latest_is_kept(tmp_path):
    folder = tmp_path / "run"
    changes = {"method": "natural", "holdout": 0, "ema_decay": 0.9, "epochs": 1}
    result = train(config(folder, **changes), stream=None)
    row = read_rows(folder / "metrics.jsonl")[0]
    assert row["holdout_clean_accuracy"] is None and row["holdout_robust_accuracy"] is None
    assert row["mean_backward_passes"] == 0
    run = load_run(folder, "best")
    assert run.averaged and run.step == row["step"]
    average = result.state.average["params"]
    jax.tree.map(np.testing.assert_array_equal, run.variables["params"], average)


def test_what_is_measured_is_the_moving_average(tmp_path):
    # 21 steps teach the weights most digits; their average is still where they began.
    changes = {"method": "natural", "epochs": 1, "batch_size": 64}
    live = train(config(tmp_path / "live", **changes), stream=None).rows[0]
    averaged = train(config(tmp_path / "ema", **changes, ema_decay=0.9999), stream=None).rows[0]
    assert live["loss"] == averaged["loss"]
    for part in ("train", "holdout"):
        assert averaged[f"{part}_clean_accuracy"] < 0.4 < live[f"{part}_clean_accuracy"]


def test_a_loss_that_is_not_finite_stops_training_and_says_what_to_try(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is .*(nan|inf).* learning_rate"):
        train(config(tmp_path / "run", method="natural", learning_rate=1e30), stream=None)
    assert read_rows_or_none(tmp_path / "run" / "metrics.jsonl") is None


def test_weights_that_the_last_step_of_an_epoch_ruins_are_not_saved(tmp_path):
    # One step an epoch: the loss before it is finite, the weights after it are not.
    changes = {"method": "natural", "learning_rate": 1e39, "batch_size": 1024, "holdout": 400}
    with pytest.raises(
        TrainingError, match=r"weights are not finite after step 1; .*learning_rate"
    ):
        train(config(tmp_path / "run", **changes), stream=None)
    assert read_rows_or_none(tmp_path / "run" / "metrics.jsonl") is None
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_run(tmp_path / "run")


def test_a_run_is_not_resumed_on_other_data(unbroken, tmp_path):
    shutil.copytree(unbroken.workdir, tmp_path / "run")
    changes = {"dataset": "npz", "data_dir": str(tmp_path / "mine.npz")}
    digits = data.load("digits", "train")
    np.savez(tmp_path / "mine.npz", images=digits.images, labels=digits.labels[::-1])
    text = (tmp_path / "run" / "flags.txt").read_text()
    (tmp_path / "run" / "flags.txt").write_text(text.replace("--dataset=digits", "--dataset=npz"))
    with pytest.raises(ValueError, match="was trained on other data"):
        train(config(tmp_path / "run", **changes), stream=None)


def test_nothing_is_compiled_after_the_first_epoch(tmp_path):
    compiled = []

    def on_duration(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    class Counting(io.StringIO):
        def write(self, text):
            if text.startswith("epoch "):
                counts.append(len(compiled))
            return super().write(text)

    counts = []
    jax.monitoring.register_event_duration_secs_listener(on_duration)
    train(config(tmp_path / "run", method="natural", epochs=3), Counting())
    assert len(counts) == 3 and counts[0] > 0
    assert counts[2] == counts[1] == counts[0]


def read_rows_or_none(path):
    return read_rows(path) if path.exists() else None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6, "devices": 4}, "batch_size=6 cannot be divided among 4 devices"),
        ({"batch_size": 5000}, "batch_size=5000: there are only 1373 training examples"),
        ({"devices": 99}, "devices=99: this process has"),
        ({"attack_batch_norm": "train"}, "needs batch norm, which model=digits_cnn lacks"),
        ({"model": "digits_cn"}, "model=digits_cn: .*digits_cnn"),
        ({"method": "standart"}, "method=standart: .*did you mean 'standard'"),
        ({"set": ("tau=1",)}, "method=standard: .* has no hyper-parameter 'tau'"),
        ({"set": ("start=bogus",)}, "method=standard: start=bogus: accepted are"),
        ({"dataset": "npz", "data_dir": "/nowhere.npz"}, "data_dir=/nowhere.npz"),
        ({"augmentation": "crop"}, "augmentation"),
        ({"holdout": 1437}, "holdout"),
        ({"workdir": ""}, "workdir is not given"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_named_before_anything_is_written(tmp_path, changes, message):
    wrong = dataclasses.replace(config(tmp_path / "run"), **changes)
    with pytest.raises(ValueError, match=message):
        train(wrong, stream=None)
    assert not (tmp_path / "run").exists()
