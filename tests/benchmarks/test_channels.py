"""Single convolutions for TPUs that are not there: the table, and what is refused."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import channels
from benchmarks.ahead_of_time import convolutions

ROOT = Path(__file__).parents[2]


def row(channels, direction, cycles, target="v4-8"):
    names = {"target": target, "batch_size": 1, "channels": channels, "direction": direction}
    return names | {"cycles": cycles, "flops": 8 * 2 * 128**2 * 1000}


def test_the_share_is_of_what_all_matrix_units_do_in_these_cycles():
    # Eight units need a thousand cycles for that on v4, and four of them two thousand on v5e.
    assert channels.share(row(16, "forward", 1000)) == pytest.approx(1.0)
    assert channels.share(row(16, "forward", 4000)) == pytest.approx(0.25)
    assert channels.share(row(16, "forward", 2000, "v5e-4")) == pytest.approx(1.0)


def test_the_table_has_a_row_for_each_number_of_channels():
    rows = [row(0, "forward", 1250), row(16, "forward", 10_000), row(16, "by kernel", 20_000)]
    header, entries = channels.shares(rows)
    assert header[1:] == ["v4-8 forward, %", "v4-8 by images, %", "v4-8 by kernel, %"]
    assert entries == [["product of 8192 squared", "80", "-", "-"], ["16", "10", "-", "5"]]


def test_what_is_compiled_are_a_convolution_and_its_gradients():
    images, kernel = (2, 4, 4, 3), (3, 3, 3, 3)
    keys = jax.random.split(jax.random.key(0), 3)
    x, k, cotangent = (
        jax.random.normal(key, shape, jnp.bfloat16)
        for key, shape in zip(keys, (images, kernel, images), strict=True)
    )
    passes = convolutions._passes(images, kernel)
    forward, by_images, by_kernel = (passes[name][0] for name in convolutions.DIRECTIONS)
    found, pulled = jax.vjp(forward, x, k)
    np.testing.assert_array_equal(by_images(k, cotangent)[0], pulled(cotangent)[0])
    np.testing.assert_array_equal(by_kernel(x, cotangent)[0], pulled(cotangent)[1])
    # In the middle every tap meets a pixel.
    middle = np.sum(
        np.asarray(x, np.float64)[0, 0:3, 0:3, :, None] * np.asarray(k, np.float64), axis=(0, 1, 2)
    )
    np.testing.assert_allclose(np.asarray(found, np.float64)[0, 1, 1], middle, rtol=0.02, atol=0.05)
    assert passes["by kernel"][1] == [images, images] and passes["by images"][1] == [kernel, images]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", "channels", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_chip_of_no_known_clock_is_refused():
    found = run("--targets=v4-8,h100-8")
    assert found.returncode != 0
    assert "--targets=h100-8: accepted are v4-8" in found.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu")
def test_convolutions_are_compiled_for_a_chip_that_is_not_there(tmp_path):
    path = tmp_path / "channels.json"
    assert run("--targets=v5e-4", "--batch_size=8", f"--output={path}").returncode == 0
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 1 + 3 * len(convolutions.SIDES)
    assert all(0.0 < channels.share(row) < 1.05 for row in rows)
