"""The benchmark of the input pipeline: its ratios, and that a slow host shows in them."""

import time

import pytest

from benchmarks import pipeline
from benchmarks.workload import Setting
from robustjax.training import TrainSet

SETTING = Setting(method="standard", model="digits_cnn", batch_size=8, steps=1, image_size=8)


def test_ratios_are_taken_round_by_round():
    found = pipeline.summary(
        128, {"input": [0.01, 0.01, 0.1], "step": [0.5, 1.0, 1.0], "loop": [0.5, 2.0, 1.0]}
    )
    assert found["input_over_step"]["median"] == pytest.approx(50)
    assert found["busy"] == {"median": 1.0, "lower_quartile": 0.75, "upper_quartile": 1.0}
    assert found["met"] == {"input_over_step": True, "busy": True}
    assert found["input_images_per_second"] == pytest.approx(12800)
    slower = pipeline.summary(8, {"input": [1.0], "step": [19.0], "loop": [20.0]})
    assert slower["met"] == {"input_over_step": False, "busy": False}


@pytest.mark.slow
def test_every_side_is_timed_in_every_round_but_the_first_and_a_slow_host_shows(monkeypatch):
    batch = TrainSet.batch

    def slow(self, index):
        time.sleep(0.2)
        return batch(self, index)

    monkeypatch.setattr(TrainSet, "batch", slow)
    seconds = pipeline.measure(SETTING, images=64, loop_steps=8, rounds=2)
    assert {name: len(values) for name, values in seconds.items()} == {
        "input": 2, "step": 2, "loop": 2,
    }  # fmt: skip
    # The loop's clock starts with the third of eight batches already sent.
    assert min(seconds["input"]) > 0.19 and min(seconds["loop"]) > 5 / 7 * 0.19
    found = pipeline.summary(8, seconds)
    assert found["input_over_step"]["median"] < 1 and not found["met"]["busy"]
