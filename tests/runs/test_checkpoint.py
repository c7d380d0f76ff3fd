"""Checkpoints: what is kept, and what happens when the disk lies."""

import errno
import json

import jax
import numpy as np
import pytest

from robustjax.runs.checkpoint import METRIC, CheckpointError, Checkpoints, NewerFormatError
from robustjax.training.restore import _restore as restore_for_reading


def state(value):
    # Random bits do not compress: a flipped one is read back without a complaint.
    kernel = np.random.default_rng(value).normal(size=(64, 65)).astype(np.float32)
    return {
        "params": {"kernel": kernel, "bias": np.float32(value)},
        "optimizer": ((), {"trace": np.arange(3.0, dtype=np.float32)}),
    }


def save_all(directory, metrics):
    with Checkpoints(directory, keep_best=True) as checkpoints:
        for step, metric in enumerate(metrics, start=1):
            checkpoints.save(step, state(step), {"elapsed_seconds": step / 2}, metric)


def restore(directory, messages=None):
    with Checkpoints(directory, keep_best=True) as checkpoints:
        report = [].append if messages is None else messages.append
        return checkpoints.restore_latest(state(0), report)


def largest_file(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    save_all(tmp_path, [0.1, 0.9, 0.3, 0.2, 0.4])
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]
        assert checkpoints.restore_raw(best=True).step == 2
        assert checkpoints.restore_raw(best=False).step == 5


def test_without_a_metric_the_latest_is_the_best(tmp_path):
    with Checkpoints(tmp_path, keep_best=False) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), {})
    with Checkpoints(tmp_path, keep_best=False) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.restore_raw(best=False).step == 3


def test_a_relative_folder_is_that_of_the_beginning(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Checkpoints("run", keep_best=False) as checkpoints:
        monkeypatch.chdir("elsewhere")
        checkpoints.save(1, state(1), {})
    with Checkpoints(tmp_path / "run", keep_best=False) as checkpoints:
        assert checkpoints.steps() == [1]


def test_a_checkpoint_without_a_metric_never_displaces_the_best(tmp_path):
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        for step, metric in ((1, 0.5), (2, None), (3, None), (4, 0.1)):
            checkpoints.save(step, state(step), {}, metric)
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        assert checkpoints.restore_raw(best=True).step == 1


def test_what_is_restored_is_what_was_saved(tmp_path):
    save_all(tmp_path, [0.5, 0.1])
    restored = restore(tmp_path)
    assert restored.step == 2 and restored.record["elapsed_seconds"] == 1.0
    jax.tree.map(np.testing.assert_array_equal, restored.state, state(2))
    assert jax.tree.structure(restored.state) == jax.tree.structure(state(2))


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert restore(tmp_path) is None


def test_one_flipped_bit_is_noticed_and_the_one_before_is_used(tmp_path):
    save_all(tmp_path, [0.5, 0.1])
    victim = largest_file(tmp_path / "2")
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 4
    victim.write_bytes(content)
    messages = []
    restored = restore(tmp_path, messages)
    assert restored.step == 1
    assert len(messages) == 1 and f"{tmp_path}/2" in messages[0]
    jax.tree.map(np.testing.assert_array_equal, restored.state, state(1))


def test_a_truncated_checkpoint_is_noticed(tmp_path):
    save_all(tmp_path, [0.5, 0.1])
    victim = largest_file(tmp_path / "2")
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    messages = []
    assert restore(tmp_path, messages).step == 1
    assert "cannot be read" in messages[0] or "damaged" in messages[0]


def test_when_all_are_damaged_it_says_so(tmp_path):
    save_all(tmp_path, [0.5, 0.1])
    for step in ("1", "2"):
        largest_file(tmp_path / step).write_bytes(b"")
    with pytest.raises(CheckpointError, match="every checkpoint in .* is damaged"):
        restore(tmp_path)


def test_a_state_of_another_shape_is_refused_by_name(tmp_path):
    save_all(tmp_path, [0.5])
    other = state(0)
    other["params"]["kernel"] = np.zeros((3, 3), np.float32)
    wrong = pytest.raises(ValueError, match=r"at params/kernel it has float32\[64, 65\]")
    with Checkpoints(tmp_path, keep_best=True) as checkpoints, wrong:
        checkpoints.restore_latest(other, print)


def test_a_damaged_checkpoint_makes_way_for_a_good_one(tmp_path):
    save_all(tmp_path, [0.1, 0.9, 0.2])
    victim = largest_file(tmp_path / "3")
    victim.write_bytes(b"")
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        assert checkpoints.restore_latest(state(0), [].append).step == 2
        assert checkpoints.steps() == [2]
        checkpoints.save(3, state(3), {}, 0.3)
    assert restore(tmp_path).step == 3


def test_checkpoints_without_a_metric_are_not_kept_for_ever(tmp_path):
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(step, state(step), {}, None if step in (3, 5) else step / 100)
    with Checkpoints(tmp_path, keep_best=True) as checkpoints:
        assert checkpoints.steps() == [6, 7]


def test_a_reader_makes_nothing(tmp_path):
    save_all(tmp_path / "run", [0.5])
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path / "run", keep_best=True, read_only=True) as checkpoints:
        assert checkpoints.restore_raw(best=True).step == 1
    assert sorted(tmp_path.rglob("*")) == before


def record_of(directory, step):
    return directory / str(step) / "record" / "metadata"


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def best(directory, messages=None):
    report = [].append if messages is None else messages.append
    with Checkpoints(directory, keep_best=True, read_only=True, report=report) as checkpoints:
        return checkpoints.best_step()


def test_a_metric_that_was_changed_makes_no_other_checkpoint_the_best(tmp_path):
    save_all(tmp_path, [0.9, 0.1, 0.2])
    rewrite(record_of(tmp_path, 2), lambda record: record.update(metric=1.0))
    messages = []
    assert best(tmp_path, messages) == 1
    assert messages == [
        f"checkpoint {tmp_path}/2 is damaged: its record differs from its digest; it counts as "
        "unmeasured"
    ]


@pytest.mark.parametrize("content", [b"", b"\x00" * 60, b"[]", b'{"digest": 1}', b"[" * 100_000])
def test_a_damaged_record_costs_its_own_checkpoint_alone(tmp_path, content):
    save_all(tmp_path, [0.9, 0.1])
    record_of(tmp_path, 2).write_bytes(content)
    messages = []
    assert best(tmp_path) == 1
    assert restore(tmp_path, messages).step == 1
    assert any(f"checkpoint {tmp_path}/2" in message for message in messages)


def as_first_format(directory, step, metric):
    """Makes of a checkpoint what the first version of the format had."""
    rewrite(
        record_of(directory, step),
        lambda record: [record.pop(name) for name in ("format", "metric", "record_digest")],
    )
    folder = directory / str(step) / "metrics"
    folder.mkdir()
    (folder / "metrics").write_text(json.dumps({METRIC: metric}))


def test_checkpoints_of_the_first_format_are_read(tmp_path):
    save_all(tmp_path, [0.1, 0.1])
    as_first_format(tmp_path, 1, 0.9)
    as_first_format(tmp_path, 2, 0.3)
    assert best(tmp_path) == 1 and restore(tmp_path).step == 2
    jax.tree.map(np.testing.assert_array_equal, restore(tmp_path).state, state(2))


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"holdout_robust_accuracy": "0.9"}', b"[1]"])
def test_a_damaged_metric_of_the_first_format_counts_as_none_and_all_is_resumed(tmp_path, content):
    save_all(tmp_path, [0.1, 0.1])
    as_first_format(tmp_path, 1, 0.9)
    as_first_format(tmp_path, 2, 0.3)
    (tmp_path / "1" / "metrics" / "metrics").write_bytes(content)
    assert best(tmp_path) == 2 and restore(tmp_path).step == 2


def test_a_checkpoint_of_a_later_version_is_refused_and_stays(tmp_path):
    save_all(tmp_path, [0.5, 0.1])
    rewrite(record_of(tmp_path, 2), lambda record: record.update(format=3))
    with pytest.raises(NewerFormatError, match="has the format 3, which this version"):
        restore(tmp_path)
    assert (tmp_path / "2").is_dir()


def test_a_full_disk_is_one_sentence_and_costs_no_earlier_checkpoint(tmp_path, monkeypatch):
    save_all(tmp_path, [0.5])

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    sentence = pytest.raises(CheckpointError, match="there is no space left; those .* are whole")
    with sentence, Checkpoints(tmp_path, keep_best=True) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", full)
        checkpoints.save(2, state(2), {}, 0.6)
    assert restore(tmp_path).step == 1


def test_a_reader_looks_again_when_a_checkpoint_is_removed_under_its_eyes(tmp_path, monkeypatch):
    save_all(tmp_path, [0.5, 0.1])
    read_raw = Checkpoints.restore_raw

    def removed_meanwhile(self, *, best):
        if self.steps() == [1, 2]:  # Training saves a better one, and the best of before goes.
            with Checkpoints(tmp_path, keep_best=True) as checkpoints:
                checkpoints.save(3, state(3), {}, 0.9)
            assert not (tmp_path / "1").exists()
        return read_raw(self, best=best)

    monkeypatch.setattr(Checkpoints, "restore_raw", removed_meanwhile)
    assert restore_for_reading(tmp_path, keep_best=True, best=True).step == 3
    for step in (2, 3):
        largest_file(tmp_path / str(step)).write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot be read|damaged"):
        restore_for_reading(tmp_path, keep_best=True, best=True)
