"""A run that a signal stopped is of no use to what needs it whole."""

import pytest
from absl import flags

from robustjax import training
from robustjax.cli import quickstart
from robustjax.config import TrainConfig
from robustjax.files import Path
from robustjax.training import whole_run


@pytest.fixture
def stopped(monkeypatch):
    """Training that a signal stops."""

    def train(config, **_):
        return training.TrainResult(Path(config.workdir), None, [], finished=False)

    monkeypatch.setattr(whole_run, "train", train)


def test_what_was_stopped_is_an_error_that_says_how_to_go_on(stopped, tmp_path):
    with pytest.raises(training.TrainingError, match="run was stopped and is saved; the same"):
        training.train_to_the_end(TrainConfig(workdir=str(tmp_path / "run")))


def test_a_quickstart_that_was_stopped_measures_nothing(stopped, tmp_path, monkeypatch, absl_flags):
    monkeypatch.setattr(quickstart, "evaluate_run", lambda *_, **__: pytest.fail("measured"))
    absl_flags(f"--workdir={tmp_path / 'quick'}")
    with pytest.raises(training.TrainingError, match="natural was stopped"):
        quickstart._main()


@pytest.fixture
def absl_flags(monkeypatch):
    """Defines and parses flags that are those of the process in this test."""

    def parse(*arguments):
        values = flags.FlagValues()
        monkeypatch.setattr(flags, "FLAGS", values)
        flags.DEFINE_string("workdir", "", "", flag_values=values)
        values(["program", *arguments])

    return parse
