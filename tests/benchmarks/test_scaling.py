"""The benchmark of scaling: bytes, efficiency, and two processes that agree with one device."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import all_reduce, scaling
from benchmarks.method_work import METHODS
from robustjax.errors import UserError

PROGRAM = """\
  %all-reduce.1 = f32[3,3,16]{2,1,0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
  %all-reduce-start = (f32[10]{0}, bf16[2,2]{1,0}) all-reduce-start(%a, %b), to_apply=%add
  %all-reduce-done = f32[10]{0} all-reduce-done(%all-reduce-start)
  ROOT all-reduce.2 = u8[] all-reduce(p0), to_apply=%add
  %fusion = f32[99]{0} fusion(%all-reduce.1), calls=%all-reduce_fusion
"""


def test_bytes_of_a_program_are_those_of_its_all_reduces():
    assert all_reduce.counted(PROGRAM) == 4 * 144 + 4 * 10 + 2 * 4 + 1


def test_bytes_of_a_compiled_sum_over_devices():
    def add_up(x):
        return jax.lax.psum({"a": x, "b": x[:2]}, "devices")

    mapped = jax.pmap(add_up, axis_name="devices")
    program = mapped.lower(np.ones((1, 5), np.float32)).compile().as_text()
    assert all_reduce.counted(program) == 4 * (5 + 2)


def test_expected_bytes_by_hand():
    params = {"kernel": np.zeros((3, 4)), "bias": np.zeros(4)}
    statistics = {"mean": np.zeros(4), "var": np.zeros(4)}
    # 16 weights; 8 statistics, on the way there and back for each outer pass, and once at the end.
    for method, passes in (("standard", 1), ("trades", 2)):
        expected = 4 * (16 + 8 * (2 * passes + 1) + 3)
        assert all_reduce.expected(params, statistics, METHODS[method]) == expected


def row(**changes):
    return {
        "batch_size": 16,
        "seconds": {"shared": [2.0, 4.0, 2.0], "alone": [1.0, 3.0, 1.5]},
        "difference": 1e-6,
        "all_reduced_bytes": 8,
        "expected_bytes": 8,
        **changes,
    }


def test_efficiency_is_of_the_same_work_on_one_device():
    found = scaling.summary(row())
    assert found["images_per_second"] == 8
    assert found["efficiency"]["median"] == pytest.approx(0.75)
    assert found["agrees"]
    processes = scaling.summary(row(seconds={"shared": [3.0, 3.0]}), alone=row())
    assert processes["efficiency"]["median"] == pytest.approx(0.5)


@pytest.mark.parametrize("changes", [{"difference": 1e-4}, {"all_reduced_bytes": 12}])
def test_another_step_or_other_bytes_do_not_agree(changes):
    assert not scaling.summary(row(**changes))["agrees"]


@pytest.mark.slow
def test_two_devices_and_two_processes_step_as_one_device_does(tmp_path):
    setting = {"method": "trades", "model": "cifar_resnet_8", "batch_size": 8, "steps": 1}
    task = {
        "setting": {**setting, "image_size": 8},
        "rounds": 1,
        "weights": str(tmp_path / "w.npz"),
    }
    (one,) = scaling.run([{**task, "devices": 2, "processes": 1, "process": 0}])
    address = f"localhost:{scaling._free_port()}"
    common = {**task, "devices": 1, "processes": 2, "address": address}
    two = scaling.run([{**common, "process": number} for number in range(2)])
    for found in (one, two[0]):
        assert found["difference"] <= scaling.TOLERANCE
        assert found["all_reduced_bytes"] == found["expected_bytes"]


def worker(code):
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_process_that_fails_is_noticed_while_the_others_wait():
    workers = [worker("import time; time.sleep(60)"), worker("raise SystemExit(3)")]
    try:
        assert scaling._first_failure(workers, longest=30) == 1
    finally:
        workers[0].kill()
    assert scaling._first_failure([worker("pass"), worker("pass")], longest=30) is None


def test_processes_that_wait_for_ever_are_ended():
    waiting = worker("import time; time.sleep(60)")
    try:
        with pytest.raises(UserError, match="1 processes have not ended after 0.2 s"):
            scaling._first_failure([waiting], longest=0.2)
    finally:
        waiting.kill()


def test_what_a_failing_process_said_is_passed_on(tmp_path):
    task = {"setting": {"method": "no such"}, "devices": 1, "processes": 1, "weights": ""}
    with pytest.raises(UserError, match="(?s)process 0 of the run failed:.*model"):
        scaling.run([task])
