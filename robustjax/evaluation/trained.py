"""The network of a run, ready to be attacked, with the test set it is judged on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robustjax import attacks, data, own_code, training
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.models.forward import forward


class TrainedNetwork(NamedTuple):
    """The network of a run.

    Attributes:
      logits_fn: images [B, H, W, C] in [0, 1] to logits [B, K], with running statistics; a
        `jax.tree_util.Partial`, which attacks recognise from call to call.
      model: the Flax network; `model.apply(variables, images, train=False)`.
      variables: its weights and statistics, on the device.
      test_set: of the run's data set, its classes alone where it was trained on some.
      config: the run's experiment.
      step: the checkpoint's.
      averaged: whether the weights are a moving average.
    """

    logits_fn: Callable[[jax.Array], jax.Array]
    model: Any
    variables: Any
    test_set: data.Dataset
    config: TrainConfig
    step: int
    averaged: bool

    def first(self, examples: int) -> TrainedNetwork:
        """The same with the first so many examples of the test set."""
        kept = np.arange(min(examples, len(self.test_set.labels)))
        return self._replace(test_set=data.select(self.test_set, kept))

    def threat(self, epsilon: float | None = None) -> attacks.ThreatModel:
        """The run's ball, or one of another radius, and the box of all images."""
        return attacks.ThreatModel(
            self.config.norm, self.config.test_epsilon if epsilon is None else epsilon
        )


def load_network(
    workdir: str | os.PathLike,
    checkpoint: str = "best",
    *,
    examples: int = 0,
    data_dir: str = "",
    model: Any = None,
    dataset: Any = None,
) -> TrainedNetwork:
    """Loads the network of a run.

    Args:
      workdir: the run's folder.
      checkpoint: "best" or "latest".
      examples: keeps the first so many of the test set; 0: all.
      data_dir: where the data lies; that of the run if it is empty.
      model: the network, or what builds it, of a run that was trained with an object as its model.
      dataset: images, as for `training.train`: the test set, or a dictionary of splits, or what
        loads a split; in the place of the run's data set.

    Raises:
      ValueError: there is no run, or no such checkpoint, or the data does not fit its network.
      DataError: the data is not there.
    """
    run = training.load_run(workdir, checkpoint)
    if isinstance(dataset, data.Dataset):
        dataset = {"test": dataset}
    run = run._replace(config=training.with_objects(run.config, model=model, dataset=dataset))
    config = run.config
    place = data_dir or config.data_dir
    whole = data.load(config.dataset, "test", data_dir=place or None)
    if config.classes and max(config.classes) >= whole.num_classes:
        whole = _with_classes(whole, int(max(config.classes)) + 1)
    test_set = training.restrict(whole, config)
    where = f"workdir={workdir} data_dir={place}"
    try:
        num_classes = run.num_classes(test_set.images.shape[1:])
    except own_code.OwnCodeError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if test_set.labels.max() >= num_classes:
        raise UserError(
            f"{where}: the test labels go up to {test_set.labels.max()}, and the network of the "
            f"run tells {num_classes} classes apart, 0 to {num_classes - 1}"
        )
    test_set = _with_classes(test_set, num_classes)
    made = training.create_model(config, num_classes)
    variables = jax.tree.map(jnp.asarray, run.variables)
    logits_fn = jax.tree_util.Partial(apply_network(made), variables)
    network = TrainedNetwork(logits_fn, made, variables, test_set, config, run.step, run.averaged)
    return network.first(examples) if examples else network


def _with_classes(dataset: data.Dataset, num_classes: int) -> data.Dataset:
    """A data set as one of so many classes, of which not all need to occur."""
    if dataset.num_classes == num_classes:
        return dataset
    names = dataset.class_names if len(dataset.class_names) == num_classes else ()
    return dataclasses.replace(dataset, num_classes=num_classes, class_names=names)


def apply_network(model: Any) -> Callable[[Any, jax.Array], jax.Array]:
    """The forward pass of a Flax network as a function of its weights and the images."""
    return lambda variables, images: forward(model, variables, images)
