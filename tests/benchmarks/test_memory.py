"""What the benchmark of memory says of a compiled step whose sizes are known."""

import dataclasses

from benchmarks import memory
from robustjax import models
from robustjax.config import TrainConfig


def test_the_arguments_are_the_state_and_the_batch_and_parts_do_the_same_work():
    config = TrainConfig(method="natural", model="digits_cnn", batch_size=16, devices=1)
    plain = memory.measure(config, 8)
    weights = models.parameter_count(models.create("digits_cnn"), (8, 8, 3))
    batch = 16 * (8 * 8 * 3 + 2 * 4)
    # Weights and momentum; images, labels and weights (no one reads the index). Counters, totals,
    # scalars and the key are small.
    known = 2 * 4 * weights + batch
    assert known < plain["argument_bytes"] < known + 2000
    assert plain["temporary_bytes"] > 0 and plain["output_bytes"] >= 0
    parts = ("argument_bytes", "output_bytes", "temporary_bytes")
    assert plain["peak_bytes"] == sum(plain[name] for name in parts)
    in_parts = memory.measure(dataclasses.replace(config, microbatch=4), 8)
    assert in_parts["argument_bytes"] == plain["argument_bytes"]
    assert in_parts["flops"] == plain["flops"]


def test_the_compiled_step_runs_from_state_to_state():
    config = TrainConfig(method="natural", model="digits_cnn", batch_size=4, devices=1)
    side = memory._side(memory.compile_step(config, 8))
    side.run()
    side.run()


def test_times_are_those_of_the_plain_step_s_rounds():
    plain = {"seconds_of_rounds": [1.0, 2.0, 4.0]}
    assert memory._time(plain, plain) == "1.00"
    assert memory._time({"seconds_of_rounds": [2.0, 3.0, 4.0]}, plain) == "1.50"
    assert memory._time({}, plain) == "-"
