"""metrics.jsonl and what is shown while training runs."""

import io
import json

import pytest

from robustjax.training.log import MetricsLog, Progress, format_seconds, read_rows

ROW = {
    "epoch": 1,
    "loss": 0.5,
    "train_clean_accuracy": 0.9,
    "train_robust_accuracy": 0.5,
    "holdout_clean_accuracy": None,
    "holdout_robust_accuracy": None,
    "learning_rate": 0.01,
    "images_per_second": 1234.5,
}


def row(epoch):
    return {**ROW, "epoch": epoch}


def test_rows_are_read_back(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(row(1))
    log.append(row(2))
    assert read_rows(tmp_path / "metrics.jsonl") == [row(1), row(2)]


def test_rows_beyond_the_checkpoint_and_a_line_cut_off_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for epoch in (1, 2, 3):
        log.append(row(epoch))
    with path.open("a") as file:
        file.write('{"epoch": 4, "lo')
    log.keep_epochs(2)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]
    log.append(row(3))
    assert [kept["epoch"] for kept in read_rows(path)] == [1, 2, 3]


def test_damaged_lines_do_not_take_others_with_them(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row(1)).encode(), b"\xff\xfe{", b"5", json.dumps(row(3)).encode()]
    path.write_bytes(b"\n".join(lines))
    assert read_rows(path) == [row(1), row(3)]


def test_a_log_without_rows_is_no_log(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(row(1))
    log.keep_epochs(0)
    assert not path.exists()


def test_a_process_that_does_not_write_leaves_no_file(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", writes=False)
    log.append(row(1))
    log.keep_epochs(0)
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
