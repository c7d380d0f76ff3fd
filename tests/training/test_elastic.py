"""A run that goes on with another number of devices is the run that it would have been."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).with_name("elastic_run.py")
ROOT = SCRIPT.parents[2]


def test_a_run_on_8_devices_goes_on_with_4_and_with_1_as_if_it_had_had_one_all_along(tmp_path):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        # Without optimisation the programs are compiled in half the time.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
        "--xla_llvm_disable_expensive_passes=true",
    }
    subprocess.run([sys.executable, SCRIPT, tmp_path], env=environment, check=True, timeout=300)
    with np.load(tmp_path / "elastic.npz") as file, np.load(tmp_path / "unbroken.npz") as other:
        elastic, unbroken = dict(file), dict(other)
    order = elastic.pop("seen")
    assert order.shape == (9, 64)
    np.testing.assert_array_equal(order, unbroken.pop("seen"))
    # Each epoch is a pass over the whole set, also those that two stages share.
    for epoch in order.reshape(3, -1):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(192))
    assert elastic.keys() == unbroken.keys()
    largest = max(np.abs(elastic[name] - unbroken[name]).max() for name in elastic)
    assert largest <= 1e-5
