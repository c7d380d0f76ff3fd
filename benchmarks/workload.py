"""One training step to be measured: its options, its batch, and the state that it begins with.

Images are synthetic. Two choices make the work of every step the same and like that of training:
the running batch-norm statistics are those of the batch, and the labels are the network's own
predictions, so that the attack has correctly classified images to begin with.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from benchmarks.method_work import METHODS, MethodWork
from robustjax.config import TrainConfig
from robustjax.data import to_float
from robustjax.training.experiment import Experiment, create_experiment, create_model
from robustjax.training.train_state import TrainState

PyTree = Any

NUM_CLASSES, CHANNELS = 10, 3


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
      method: one of `METHODS`.
      model: name of the network.
      batch_size: images in a step.
      steps: of the attack, K.
      precision: "float32", "tf32" or "bfloat16".
      image_size: height and width.
      seed: of the weights, the images and the random starts.
    """

    method: str
    model: str
    batch_size: int
    steps: int
    precision: str = "float32"
    image_size: int = 32
    seed: int = 0

    @property
    def work(self) -> MethodWork:
        """What a step of the method consists of."""
        return METHODS[self.method]


@dataclasses.dataclass(frozen=True)
class Workload:
    """A training step with everything that it needs.

    Attributes:
      setting: what is measured.
      experiment: the library's parts for it, as `launch/train.py` makes them.
      state: before the step; NumPy leaves.
      images: uint8 [B, H, W, 3].
      labels: int32 [B].
      logits: float32 [B, 10] of the images, with the running statistics.
      training_logits: with the statistics of the batch.
    """

    setting: Setting
    experiment: Experiment
    state: TrainState
    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    training_logits: np.ndarray


def create(setting: Setting) -> Workload:
    """Makes the experiment from the options of `launch/train.py`, and its batch.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    side, total = setting.image_size, setting.batch_size
    images = _images(np.random.default_rng(setting.seed), total, side)
    config = train_config(setting)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        np.savez(
            path, images=images, labels=np.arange(total) % NUM_CLASSES, num_classes=NUM_CLASSES
        )
        experiment = create_experiment(dataclasses.replace(config, data_dir=str(path)))
    state = jax.tree.map(np.asarray, experiment.initial_state())
    model = create_model(config, NUM_CLASSES)
    statistics, training_logits = _settled(model, state, to_float(images))
    state = state.replace(statistics=statistics)
    logits = jax.jit(model.apply)(state.variables(), to_float(images))
    return Workload(
        setting=setting,
        experiment=experiment,
        state=state,
        images=images,
        labels=np.asarray(logits.argmax(-1), np.int32),
        logits=np.asarray(logits),
        training_logits=training_logits,
    )


def train_config(setting: Setting) -> TrainConfig:
    """The options of `launch/train.py`, with the size of a step that it would take by default."""
    config = TrainConfig(
        method=setting.method,
        set=(f"start={setting.work.start}",),
        model=setting.model,
        steps=setting.steps,
        batch_size=setting.batch_size,
        precision="bfloat16" if setting.precision == "bfloat16" else "float32",
        dataset="npz",
        holdout=0,
        # Both sides are to see the same images; cropping takes less than 0.1 % of a step.
        augmentation="none",
        schedule="constant",
        learning_rate=0.01,
        devices=1,
        seed=setting.seed,
    )
    size = config.step_size_for(config.test_epsilon, setting.steps)
    return dataclasses.replace(config, step_size=size)


def _images(random: np.random.Generator, total: int, side: int) -> np.ndarray:
    """Smooth random images with some noise, uint8 [total, side, side, 3]."""
    coarse = random.uniform(0, 255, (total, -(-side // 4), -(-side // 4), CHANNELS))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :side, :side]
    return np.clip(smooth + random.normal(0, 16, smooth.shape), 0, 255).astype(np.uint8)


def _settled(model: nn.Module, state: TrainState, images: jax.Array) -> tuple[PyTree, np.ndarray]:
    """The statistics of this batch in place of the initial ones, and the logits with them."""

    @jax.jit
    def normalised_by_batch(variables: PyTree) -> tuple[jax.Array, PyTree]:
        return model.apply(
            variables, images, train=False, batch_statistics=True, mutable=["batch_stats"]
        )

    logits, moved = normalised_by_batch(state.variables())
    # One pass moves the running statistics a tenth of the way.
    statistics = jax.tree.map(
        lambda old, new: np.asarray(old + 10 * (np.asarray(new) - old), np.float32),
        state.statistics,
        moved.get("batch_stats", state.statistics),
    )
    return statistics, np.asarray(logits)
