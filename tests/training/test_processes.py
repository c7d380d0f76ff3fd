"""Training as a command: killed and started again, on several devices, in several processes."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax.training import load_run

ROOT = Path(__file__).resolve().parents[2]

FLAGS = """
--method=standard --model=digits_cnn --dataset=digits --epsilon=0.1 --steps=2 --step_size=0.05
--measure_steps=2 --measure_examples=64 --holdout=64 --epochs=3 --batch_size=128
--learning_rate=0.05 --schedule=constant
""".split()  # noqa: SIM905


def start(workdir, *flags, devices=1):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "launch/train.py", *FLAGS, f"--workdir={workdir}", *flags],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    return output


def rows(workdir):
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def wait_for_an_epoch(process):
    """Reads what a process prints until it has trained an epoch by itself."""
    read = []
    for line in process.stdout:
        read.append(line)
        if line.startswith("epoch "):
            return
    raise AssertionError("".join(read))


def assert_same_weights(one, other):
    jax.tree.map(
        np.testing.assert_array_equal,
        load_run(one, "latest").variables,
        load_run(other, "latest").variables,
    )


@pytest.mark.slow
def test_killed_at_any_moment_and_terminated_it_ends_with_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    # Long enough to be still training whenever a signal comes.
    longer = "--epochs=25"
    finish(start(whole, longer))
    # Once while starting, compiling or in its first epochs, once just after an epoch, while its
    # checkpoint is written.
    process = start(broken, longer)
    latest = time.monotonic() + random.uniform(1, 6)
    while time.monotonic() < latest and len(rows(broken)) < 5:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    process = start(broken, longer)
    wait_for_an_epoch(process)
    time.sleep(random.uniform(0, 0.1))
    process.kill()
    process.communicate()
    process = start(broken, longer)
    wait_for_an_epoch(process)
    process.send_signal(signal.SIGTERM)
    assert "stopped and saved at step" in finish(process)
    assert len(rows(broken)) < 25
    finish(start(broken, longer))
    assert_same_weights(whole, broken)
    times = ("images_per_second", "elapsed_seconds")
    for one, other in zip(rows(whole), rows(broken), strict=True):
        assert {key: one[key] for key in one if key not in times} == {
            key: other[key] for key in other if key not in times
        }


def test_four_devices_train_as_one_does_and_xla_flags_are_respected(tmp_path):
    finish(start(tmp_path / "one", "--cpu_devices=3", devices=1))
    finish(start(tmp_path / "four", devices=4))
    for one, four in zip(rows(tmp_path / "one"), rows(tmp_path / "four"), strict=True):
        assert abs(one["loss"] - four["loss"]) <= 0.02 * one["loss"]


def in_two_processes(workdir, *flags):
    """What the two print."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    address = (f"--coordinator_address=localhost:{port}", "--num_processes=2")
    processes = [
        start(workdir, *address, f"--process_id={number}", *flags, devices=2) for number in range(2)
    ]
    return [finish(process) for process in processes]


def assert_same_log(workdir, expected):
    for one, two in zip(rows(expected), rows(workdir), strict=True):
        assert abs(one["loss"] - two["loss"]) <= 1e-3 * one["loss"]
        for part in ("train", "holdout"):
            assert one[f"{part}_clean_accuracy"] == pytest.approx(
                two[f"{part}_clean_accuracy"], abs=0.05
            )


def test_two_processes_train_and_save_as_one_does(tmp_path):
    finish(start(tmp_path / "one", "--epochs=1", devices=4))
    in_two_processes(tmp_path / "two", "--epochs=1")
    assert_same_log(tmp_path / "two", tmp_path / "one")
    one, two = (load_run(tmp_path / name, "latest").variables for name in ("one", "two"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3), one, two)


@pytest.mark.slow
def test_two_processes_resume(tmp_path):
    finish(start(tmp_path / "one", "--epochs=2", devices=4))
    in_two_processes(tmp_path / "two", "--epochs=1")
    output = in_two_processes(tmp_path / "two", "--epochs=2")
    assert "resuming" in output[0] and "resuming" not in output[1]
    assert [row["epoch"] for row in rows(tmp_path / "two")] == [1, 2]
    assert_same_log(tmp_path / "two", tmp_path / "one")
