"""The folder of a run: made, resumed, or refused with the reason."""

import dataclasses

import pytest

from robustjax.config import TrainConfig
from robustjax.flags import read_flags
from robustjax.runs import claim
from robustjax.training.schedules import depends_on_length


def config(tmp_path, **changes):
    return TrainConfig(workdir=str(tmp_path / "run"), epochs=10, **changes)


def claimed(config):
    return claim.claim(config, depends_on_length=depends_on_length(config.schedule))


def claim_and_save(config):
    """A run that has saved a checkpoint."""
    (claimed(config) / "checkpoints" / "7").mkdir(parents=True)


def test_a_new_folder_records_the_experiment(tmp_path):
    folder = claimed(config(tmp_path))
    assert read_flags(folder / "flags.txt") == config(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["flags.txt"]


def test_the_same_options_resume(tmp_path):
    claimed(config(tmp_path))
    claimed(config(tmp_path))


def test_other_options_are_refused_by_name_and_nothing_changes(tmp_path):
    claim_and_save(config(tmp_path))
    with pytest.raises(ValueError, match=r"weight_decay=0.1 .*seed=3 \(was 0\)"):
        claimed(config(tmp_path, seed=3, weight_decay=0.1))
    assert read_flags(tmp_path / "run" / "flags.txt") == config(tmp_path)


def test_what_does_not_change_training_may_change(tmp_path):
    claim_and_save(config(tmp_path))
    moved = config(tmp_path, data_dir="elsewhere", devices=2)
    claimed(moved)
    kept = read_flags(tmp_path / "run" / "flags.txt")
    assert kept.data_dir == "elsewhere"
    # The number of devices belongs to the machine, not to the experiment.
    assert kept.devices == 0


def test_before_anything_is_saved_the_options_may_change(tmp_path):
    claimed(config(tmp_path))
    claimed(config(tmp_path, seed=3))
    assert read_flags(tmp_path / "run" / "flags.txt").seed == 3


def test_hyperparameters_are_compared_however_they_were_given(tmp_path):
    claim_and_save(config(tmp_path, method="trades", beta=6.0, set=("start=clean",)))
    claimed(config(tmp_path, method="trades", set=("start=clean", "beta=6.0")))
    with pytest.raises(ValueError, match=r"start=uniform \(was clean\)"):
        claimed(config(tmp_path, method="trades", beta=6.0, set=("start=uniform",)))


def test_more_epochs_only_where_the_schedule_does_not_depend_on_them(tmp_path):
    claim_and_save(config(tmp_path))
    claimed(dataclasses.replace(config(tmp_path), epochs=20))
    with pytest.raises(ValueError, match=r"epochs=5 \(was 20\)"):
        claimed(dataclasses.replace(config(tmp_path), epochs=5))
    other = dataclasses.replace(config(tmp_path, schedule="cosine"), workdir=str(tmp_path / "b"))
    claim_and_save(other)
    with pytest.raises(ValueError, match="cosine schedule depends on the length"):
        claimed(dataclasses.replace(other, epochs=20))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="holds other files"):
        claimed(config(tmp_path))
    assert (tmp_path / "run" / "thesis.tex").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ValueError, match="workdir=.*run cannot be written"):
        claimed(config(tmp_path))


def test_no_folder_is_named():
    with pytest.raises(ValueError, match="workdir is not given"):
        claimed(TrainConfig())
