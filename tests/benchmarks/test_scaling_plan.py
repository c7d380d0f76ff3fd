"""docs/scaling.md: its figures of the network and its flags are what the code says."""

import re
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks.method_work import METHODS
from robustjax import data, models
from robustjax.flags import define_flags
from robustjax.models import flops

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text()


def test_the_network_is_as_large_as_the_plan_says():
    model = models.create("wide_resnet_70_16")
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    weights, statistics = (
        sum(leaf.size for leaf in jax.tree.leaves(variables[name]))
        for name in ("params", "batch_stats")
    )
    forward = flops.forward("wide_resnet_70_16")
    for figure in (
        f"{forward / 1e9:.2f} GFLOP an image",
        f"{weights / 1e6:.1f} million weights",
        f"{statistics:,}\n",
        f"{METHODS['trades'].units(10) * forward / 1e12:.3f} TFLOP an image",
        f"{4 * weights / 1e6:,.0f} MB",
    ):
        assert figure.strip() in TEXT, figure


def test_epochs_are_as_long_as_the_plan_says():
    for batch_size, fraction in ((1024, 0.7), (8192, 0.7)):
        order = data.mixed_epoch_order(0, 0, 49_000, 10**6, batch_size, fraction)
        assert f"{order.size:,}" in TEXT
        assert f"{round(1e8 / order.size)} epochs" in re.sub(r"\s+", " ", TEXT)


def test_its_flags_exist():
    values = flags.FlagValues()
    define_flags(values)
    known = set(values) | {"flagfile", "workdir", "name", "zone", "skip_setup"}
    assert set(re.findall(r"(?<![\w-])--(\w+)", TEXT)) <= known
