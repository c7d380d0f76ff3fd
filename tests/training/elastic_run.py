"""`python elastic_run.py FOLDER`: a run on 8, 4 and 1 devices in turn, and the same run on one.

Started with eight CPU devices by `test_elastic.py`; leaves `elastic.npz` and `unbroken.npz` there,
each with the examples that every step got, and the weights and statistics at the end.
"""

import signal
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from robustjax import parallel
from robustjax.config import TrainConfig
from robustjax.models.layers import Layers
from robustjax.training import experiment, loop

STAGES = ((8, 2), (4, 5), (1, None))
"""Devices, and the step during which a signal asks the run to stop."""


class TinyNetwork(nn.Module):
    """One convolution and a global batch norm: compiled in no time."""

    num_classes: int = 10
    layers: Layers = Layers(axis_name=parallel.AXIS)

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        batch_statistics = train if batch_statistics is None else batch_statistics
        x = self.layers.conv(self.layers.normalize(images), 8, 3, name="conv")
        x = self.layers.batch_norm(x, batch_statistics=batch_statistics, name="norm")
        return self.layers.logits(self.layers.activate(x).mean((1, 2)), 10, name="head")


def config(workdir, devices):
    # Without the sign of a gradient: rounding would decide which way a pixel goes.
    return TrainConfig(
        method="standard", norm="l2", epsilon=0.5, steps=1, step_size=0.25, measure_steps=1,
        dataset="digits", train_examples=192, holdout=0, batch_size=64,
        epochs=3, measure_examples=64, learning_rate=0.02, schedule="constant",
        augmentation="crop4-flip", batch_norm="global", workdir=str(workdir), devices=devices,
    )  # fmt: skip


def stage(workdir, devices, stop_at=None):
    """Trains or goes on; returns the positions in each step's batch, and the state."""
    dispatch, seen = loop._Run._dispatch, []

    def recorded(self, index):
        seen.append(index)
        loss = dispatch(self, index)
        if self.step == stop_at:
            signal.raise_signal(signal.SIGTERM)
        return loss

    loop._Run._dispatch = recorded
    try:
        result = loop.train(config(workdir, devices), stream=None)
    finally:
        loop._Run._dispatch = dispatch
    assert result.finished == (stop_at is None)
    return seen, result.state


def save(path, seen, state):
    leaves = jax.tree.leaves((state.params, state.statistics))
    np.savez(path, seen=np.stack(seen), **{f"leaf_{i}": leaf for i, leaf in enumerate(leaves)})


def main():
    folder = Path(sys.argv[1])
    experiment.create_model = lambda *arguments, **options: TinyNetwork()
    seen = []
    for devices, stop_at in STAGES:
        of_stage, state = stage(folder / "elastic", devices, stop_at)
        seen += of_stage
    save(folder / "elastic.npz", seen, state)
    save(folder / "unbroken.npz", *stage(folder / "unbroken", 1))


if __name__ == "__main__":
    main()
