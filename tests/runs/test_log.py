"""metrics.jsonl and what is shown while training runs."""

import io
import json

import pytest

from robustjax.runs.log import KEYS, MetricsLog, Progress, format_seconds, is_whole_row, read_rows

ROW = {
    "epoch": 1,
    "step": 4,
    "loss": 0.5,
    "train_clean_accuracy": 0.9,
    "train_robust_accuracy": 0.5,
    "holdout_clean_accuracy": None,
    "holdout_robust_accuracy": None,
    "learning_rate": 0.01,
    "mean_backward_passes": 7.5,
    "images_per_second": 1234.5,
    "elapsed_seconds": 2.5,
}


def row(epoch):
    return {**ROW, "epoch": epoch, "step": 4 * epoch}


def test_rows_are_read_back(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(row(1))
    log.append(row(2))
    assert read_rows(tmp_path / "metrics.jsonl") == [row(1), row(2)]


def test_whatever_the_file_says_it_has_the_rows_of_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(row(1))[:-9] + "\n" + json.dumps(row(3)) + '\n{"epoch": 4, "lo')
    log = MetricsLog(path, rows=[row(1), row(2)])
    assert read_rows(path) == log.rows() == [row(1), row(2)]
    log.append(row(3))
    assert read_rows(path) == [row(1), row(2), row(3)]


DAMAGED = {
    "no text": b"\xff\xfe{",
    "no object": b"5",
    "nested too deeply": b"[" * 100_000,
    "a list": json.dumps([row(2)]).encode(),
    "no epoch": json.dumps({key: row(2)[key] for key in KEYS if key != "epoch"}).encode(),
    **{f"{key} is text": json.dumps({**row(2), key: "1"}).encode() for key in KEYS},
    "an infinite loss": json.dumps({**row(2), "loss": float("inf")}).encode(),
    "a loss of a thousand digits": b'{"loss": ' + b"9" * 1000 + json.dumps(row(2)).encode()[10:],
    "epoch 0": json.dumps(row(0)).encode(),
    "epoch true": json.dumps({**row(2), "epoch": True}).encode(),
    "half an epoch": json.dumps({**row(2), "epoch": 1.5}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED.values(), ids=list(DAMAGED))
def test_damaged_lines_do_not_take_others_with_them(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"\n".join([json.dumps(row(1)).encode(), line, json.dumps(row(3)).encode()]))
    assert read_rows(path) == [row(1), row(3)]


def test_what_another_version_does_not_log_is_no_damage(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lacking = {"epoch": 2, "loss": 0.5}
    path.write_text(json.dumps(row(1)) + "\n" + json.dumps(lacking))
    assert read_rows(path) == [row(1), lacking]
    assert is_whole_row(row(1)) and not is_whole_row(lacking)


def test_a_log_without_rows_is_no_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).append(row(1))
    MetricsLog(path, rows=[])
    assert not path.exists()


def test_a_process_that_does_not_write_leaves_no_file(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", writes=False, rows=[row(1)])
    log.append(row(2))
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_there_is_one_line_an_epoch():
    stream = io.StringIO()
    progress = Progress(4, 0, 2, stream)
    for epoch in (1, 2):
        progress.advance(0.5)
        progress.advance(0.4)
        progress.epoch(row(epoch))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(
        "epoch 1/2  loss 0.5000  train 90.0 / 50.0 %  lr 0.01  1234 images/s"
    )
    assert lines[1].endswith("ETA 0:00:00")


def test_on_a_terminal_there_is_a_bar_with_the_time_left():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = Progress(2, 0, 1, stream)
    progress.advance(0.5)
    progress.advance(0.4)
    progress.epoch(row(1))
    progress.close()
    shown = stream.getvalue()
    assert "step/s" in shown and "epoch 1/1" in shown and "ETA" in shown


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (61.4, "0:01:01"), (3600 * 30 + 59, "30:00:59")]
)
def test_seconds(seconds, text):
    assert format_seconds(seconds) == text
