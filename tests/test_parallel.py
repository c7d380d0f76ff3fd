"""Devices and processes, with the four CPU devices that the tests force."""

import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import parallel


def test_a_batch_is_divided_or_refused_with_a_size_that_fits():
    assert parallel.per_device_batch(128, 4) == 32
    with pytest.raises(ValueError, match=r"batch_size=130 cannot .* 4 devices; .* such as 128"):
        parallel.per_device_batch(130, 4)
    with pytest.raises(ValueError, match=r"batch_size=3 cannot .* such as 4"):
        parallel.per_device_batch(3, 4)
    with pytest.raises(ValueError, match="batch_size=0"):
        parallel.per_device_batch(0, 1)


def test_devices_can_be_limited():
    assert parallel.local_devices() == jax.local_devices()
    assert parallel.local_devices(2) == jax.local_devices()[:2]
    with pytest.raises(ValueError, match=r"devices=5: this process has 4 cpu device"):
        parallel.local_devices(5)


def test_replicating_and_back():
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": np.int32(7)}
    replicated = parallel.replicate(tree, jax.local_devices())
    assert replicated["a"].shape == (4, 2, 3) and replicated["b"].shape == (4,)
    assert len(replicated["a"].sharding.device_set) == 4
    jax.tree.map(np.testing.assert_array_equal, parallel.unreplicate(replicated), tree)


def test_splitting_keeps_the_order():
    split = parallel.split_over_devices({"a": np.arange(8)}, 4)
    np.testing.assert_array_equal(split["a"], [[0, 1], [2, 3], [4, 5], [6, 7]])


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_function_that_takes_its_own_outputs_is_compiled_once_and_reuses_their_memory(count):
    devices = parallel.local_devices(count)
    traces = []

    def step(state, amount):
        traces.append(1)
        return state + jax.lax.psum(amount, parallel.AXIS)

    mapped = parallel.map_over_devices(step, devices, in_axes=(0, None), donate=(0,))
    first = parallel.replicate(np.zeros(5, np.float32), devices)
    state = mapped(first, np.float32(1))
    assert first.is_deleted()
    state = mapped(state, np.float32(2))
    assert len(traces) == 1
    np.testing.assert_array_equal(parallel.unreplicate(state), np.full(5, 3.0 * count))


def test_one_process_loads_the_whole_batch_and_writes():
    assert parallel.process_share(12) == slice(0, 12)
    assert parallel.is_main_process()


def test_processes_need_their_number():
    parallel.initialize_processes(None)
    with pytest.raises(ValueError, match="coordinator_address=host:1 needs num_processes"):
        parallel.initialize_processes("host:1")
    with pytest.raises(ValueError, match=r"process_id from 0 to N - 1 \(it is 2\)"):
        parallel.initialize_processes("host:1", 2, 2)


def test_processes_need_an_address():
    with pytest.raises(ValueError, match="num_processes=2 process_id=1: .*coordinator_address"):
        parallel.initialize_processes(None, 2, 1)


def test_processes_give_each_other_up_within_a_minute(monkeypatch):
    given = {}
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *arguments, **options: given.update(options)
    )
    parallel.initialize_processes("host:1", 2, 1)
    assert given["heartbeat_timeout_seconds"] < 60
    assert not parallel.is_one_of_several()


def test_one_process_agrees_with_itself():
    parallel.require_agreement("anything", "no")


def test_forced_devices_respect_flags_that_are_set(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    parallel.force_cpu_devices(3)
    flags = "--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count=3"
    assert os.environ["XLA_FLAGS"] == flags
    parallel.force_cpu_devices(5)
    assert os.environ["XLA_FLAGS"] == flags


def test_importing_registers_no_flag_and_touches_no_device():
    program = """
import robustjax
from absl import flags
before = set(flags.FLAGS)
from robustjax import attacks, config, data, evaluation, losses, measure, methods, models
from robustjax import parallel, training
from robustjax.cli import app, quickstart, train
from robustjax.cli.evaluate import command as evaluate
new = set(flags.FLAGS) - before
assert not {name for name in new if "robustjax" in flags.FLAGS.find_module_defining_flag(name)}, new
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_four_devices_are_there():
    assert jnp.zeros(1).devices() <= set(jax.devices())
    assert jax.local_device_count() == 4


def test_every_process_brings_as_many_devices_as_this_one(monkeypatch):
    everywhere = [SimpleNamespace(process_index=n // 4, id=n) for n in (4, 5, 6, 7, 0, 1, 2, 3)]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "devices", lambda: everywhere)
    mapped = {}
    monkeypatch.setattr(jax, "pmap", lambda function, **how: mapped.update(how))
    parallel.map_over_devices(lambda x: x, everywhere[4:6], in_axes=(0,))
    assert [device.id for device in mapped["devices"]] == [4, 5, 0, 1]
