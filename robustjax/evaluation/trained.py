"""The network of a run, ready to be attacked, with the test set it is judged on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from robustjax import attacks, data, models, own_code, training
from robustjax.config import TrainConfig
from robustjax.digest import digest, digest_of_program
from robustjax.errors import UserError
from robustjax.models.forward import forward


class TrainedNetwork(NamedTuple):
    """The network of a run.

    Attributes:
      logits_fn: images [B, H, W, C] in [0, 1] to logits [B, K], with running statistics; a
        `jax.tree_util.Partial`, which attacks recognise from call to call.
      model: the Flax network; `model.apply(variables, images, train=False)`.
      variables: its weights and statistics, on the device.
      test_set: of the run's data set, its classes alone where it was trained on some; or what was
        named in its place.
      config: the run's experiment.
      step: the checkpoint's.
      averaged: whether the weights are a moving average.
      split: of the data set, that `test_set` is.
      own: whether `test_set` is the run's own.
    """

    logits_fn: Callable[[jax.Array], jax.Array]
    model: Any
    variables: Any
    test_set: data.Dataset
    config: TrainConfig
    step: int
    averaged: bool
    split: str = "test"
    own: bool = True

    @property
    def data_name(self) -> str:
        """What `test_set` is called in records, as "cifar10 test"."""
        return f"{self.config.dataset} {self.split}"

    @property
    def fingerprint(self) -> str:
        """Tells it from other weights, and a network of one's own from what its code was before."""
        if not models.is_users(self.config.model):
            return digest(self.variables)
        like = jax.ShapeDtypeStruct((1, *self.test_set.images.shape[1:]), jnp.float32)
        return digest_of_program(self.logits_fn, like)

    def first(self, examples: int) -> TrainedNetwork:
        """The same with the first so many examples of the test set."""
        count = min(examples, len(self.test_set.labels))
        return self._replace(test_set=data.first(self.test_set, count))

    def threat(self, epsilon: float | None = None, norm: str = "") -> attacks.ThreatModel:
        """The run's ball, or one of another radius or norm, and the box of all images.

        Raises:
          ValueError: the norm is another than the run's and there is no radius.
        """
        if norm and norm != self.config.norm and epsilon is None:
            raise UserError(
                f"norm={norm}: the run's ball is {self.config.norm}, and its radius no measure of "
                "another; give epsilon"
            )
        return attacks.ThreatModel(
            norm or self.config.norm, self.config.test_epsilon if epsilon is None else epsilon
        )


def load_network(
    workdir: str | os.PathLike,
    checkpoint: str = "best",
    *,
    examples: int = 0,
    data_dir: str = "",
    split: str = "test",
    image_size: int = 0,
    model: Any = None,
    dataset: Any = None,
) -> TrainedNetwork:
    """Loads the network of a run.

    Args:
      workdir: the run's folder.
      checkpoint: "best" or "latest".
      examples: keeps the first so many of the test set; 0: all.
      data_dir: where the data lies; that of the run if it is empty.
      split: of the data set, as for `data.load`.
      image_size: see `data.load`; that of the run if it is 0.
      model: the network, or what builds it, of a run that was trained with an object as its model.
      dataset: in the place of the run's data set the name of another, whose classes are numbered as
        its are; or images, as for `training.train`: the test set, or a dictionary of splits, or
        what loads a split.

    Raises:
      ValueError: there is no run, or no such checkpoint, or the data does not fit its network.
      DataError: the data is not there.
    """
    run = training.load_run(workdir, checkpoint)
    of_run = run.config
    if isinstance(dataset, str):
        # Where the run's data lie says nothing of where those of another set do.
        place = of_run.data_dir if dataset in ("", of_run.dataset) else ""
        config = dataclasses.replace(of_run, dataset=dataset or of_run.dataset, data_dir=place)
        dataset = None
    else:
        config = of_run
    if isinstance(dataset, data.Dataset):
        dataset = {split: dataset}
    config = training.with_objects(config, model=model, dataset=dataset)
    if image_size:
        config = dataclasses.replace(config, image_size=image_size)
    run = run._replace(config=config)
    place = data_dir or config.data_dir
    whole = data.load(config.dataset, split, data_dir=place or None, image_size=config.image_size)
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
    network = TrainedNetwork(
        logits_fn,
        made,
        variables,
        test_set,
        config,
        run.step,
        run.averaged,
        split,
        own=split == "test" and _is_own_data(config, of_run, place),
    )
    return network.first(examples) if examples else network


def _is_own_data(config: TrainConfig, of_run: TrainConfig, place: str) -> bool:
    """Whether the data set is the run's own; of one that is no more than a path, whether that is.

    Args:
      config: the run's, with the data set that is taken.
      of_run: the run's own.
      place: where the data set lies.
    """
    if (config.dataset, config.image_size) != (of_run.dataset, of_run.image_size):
        return False
    if config.dataset not in data.NAMED_BY_PATH:
        return True
    return os.path.realpath(place) == os.path.realpath(of_run.data_dir)


def _with_classes(dataset: data.Dataset, num_classes: int) -> data.Dataset:
    """A data set as one of so many classes, of which not all need to occur."""
    if dataset.num_classes == num_classes:
        return dataset
    names = dataset.class_names if len(dataset.class_names) == num_classes else ()
    return dataclasses.replace(dataset, num_classes=num_classes, class_names=names)


def apply_network(model: Any) -> Callable[[Any, jax.Array], jax.Array]:
    """The forward pass of a Flax network as a function of its weights and the images."""
    return lambda variables, images: forward(model, variables, images)
