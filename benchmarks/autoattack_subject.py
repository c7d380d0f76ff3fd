"""The networks that are attacked: a run's, or one that is trained for the purpose on digits."""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from robustjax import data, training
from robustjax.config import TrainConfig
from robustjax.evaluation.trained import apply_network, load_network


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network and its test images.

    Attributes:
      name: for the table.
      logits_fn: images [B, H, W, C] to logits, in float32.
      variables: its weights and statistics.
      norm: of the ball.
      images: float32 [N, H, W, C].
      labels: int32 [N].
      epsilon: of the ball.
    """

    name: str
    logits_fn: Callable[[jax.Array], jax.Array]
    variables: Mapping[str, Any]
    norm: str
    images: np.ndarray
    labels: np.ndarray
    epsilon: float


def of_run(
    workdir: str, checkpoint: str, *, examples: int, data_dir: str, epsilon: float | None
) -> Subject:
    """The network of a run with the first images of its test set.

    Raises:
      ValueError: there is no run, no such checkpoint, or no data.
    """
    network = load_network(workdir, checkpoint, examples=examples, data_dir=data_dir)
    # A run in bfloat16 is attacked in float32, as its copy in PyTorch is.
    config = dataclasses.replace(network.config, precision="float32")
    model = training.create_model(config, network.test_set.num_classes)
    return Subject(
        name=config.model,
        logits_fn=jax.tree_util.Partial(apply_network(model), network.variables),
        variables=network.variables,
        norm=config.norm,
        images=np.asarray(data.to_float(network.test_set.images)),
        labels=np.asarray(network.test_set.labels, np.int32),
        epsilon=float(config.test_epsilon if epsilon is None else epsilon),
    )


def trained_on_digits(
    model: str, *, epochs: int, examples: int, epsilon: float | None, seed: int
) -> Subject:
    """A network trained for a moment, adversarially, on the embedded digits, enlarged.

    Args:
      model: "small_cnn" sees 28×28×1, every other network 32×32×3.
      epochs: of 512 images.
      examples: how many test images are attacked, at most 360.
      epsilon: 0.1 if None, which leaves both kinds of verdict.
      seed: of the training.
    """
    epsilon = 0.1 if epsilon is None else epsilon
    train, test = (data.load("digits", split) for split in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        archive = str(Path(folder) / "digits.npz")
        np.savez(
            archive,
            images=enlarged(train.images, model),
            labels=train.labels,
            test_images=enlarged(test.images, model),
            test_labels=test.labels,
        )
        config = TrainConfig(
            method="standard",
            model=model,
            dataset="npz",
            data_dir=archive,
            augmentation="none",
            epsilon=epsilon,
            steps=1,
            step_size=1.25 * epsilon,
            epochs=epochs,
            train_examples=512,
            holdout=0,
            batch_size=32,
            optimizer="adam",
            learning_rate=1e-3,
            weight_decay=0.0,
            epsilon_warmup_epochs=epochs / 2,
            schedule="cosine",
            measure_steps=1,
            measure_examples=32,
            workdir=str(Path(folder) / "run"),
            devices=1,
            seed=seed,
        )
        training.train(config, None)
        return of_run(
            config.workdir, "latest", examples=examples, data_dir=archive, epsilon=epsilon
        )


def enlarged(images: np.ndarray, model: str) -> np.ndarray:
    """Digits uint8 [N, 8, 8, 1] as [N, 28, 28, 1] for the small network, or [N, 32, 32, 3]."""
    if model == "small_cnn":
        larger = images.repeat(3, axis=1).repeat(3, axis=2)
        return np.pad(larger, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return images.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
