"""Turns the options of an experiment into its parts: data, network, method, optimiser, schedule."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from robustjax import data, installed, methods, models, own_code, parallel
from robustjax.arguments import LARGEST_COUNT, shown
from robustjax.config import TrainConfig
from robustjax.digest import digest
from robustjax.epoch_schedule import parse_schedule
from robustjax.errors import UserError
from robustjax.models.forward import forward
from robustjax.step_size import reach_complaint
from robustjax.training.measure_attack import require_measurable, short_reach
from robustjax.training.optimizer import create_optimizer
from robustjax.training.schedules import learning_rate_schedule, warmed_up
from robustjax.training.step import StepSettings, make_train_step, microbatch
from robustjax.training.train_set import TrainSet, create_train_set
from robustjax.training.train_state import TrainState, create_state
from robustjax.training.units import require_units

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of one training run, ready for the loop."""

    config: TrainConfig
    train_set: TrainSet
    holdout_set: data.Dataset | None
    model: nn.Module
    method: methods.Method
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    settings: StepSettings
    steps_per_epoch: int
    pretrained: PyTree = None

    def initial_state(self) -> TrainState:
        """The state before the first step: from the seed, or with the weights of another run."""
        image_shape = self.train_set.images.shape[1:]
        images = jnp.zeros((1, *image_shape), jnp.float32)
        initialize, key = jax.jit(self.model.init), jax.random.key(self.config.seed)
        _require_trainable_size(self.config, jax.eval_shape(initialize, key, images))
        variables = initialize(key, images)
        if self.method.attack_batch_norm == "train" and "batch_stats" not in variables:
            raise UserError(
                f"method={self.method.name} with attack_batch_norm=train needs batch norm, which "
                f"model={self.config.model} lacks; use attack_batch_norm=eval or another model"
            )
        if models.is_users(self.config.model):
            _require_logits(self.config, self.model, variables, images, self.train_set.num_classes)
        if self.pretrained is not None:
            variables = _require_same_shapes(self.config, self.pretrained, variables)
        rows = {"example": len(self.train_set.labels), "position": self.config.batch_size}
        return create_state(
            variables,
            self.optimizer,
            self.method.init(rows[self.method.memory_of], image_shape),
            with_average=self.config.ema_decay > 0,
        )

    def train_step(
        self, devices: Sequence[jax.Device]
    ) -> Callable[..., tuple[TrainState, jax.Array]]:
        """The train step over devices that share each batch; the state given to it is used up."""
        step = make_train_step(self.model, self.method, self.optimizer, self.settings)
        return parallel.map_over_devices(step, devices, in_axes=(0, 0, None, None), donate=(0,))

    def warnings(self) -> list[str]:
        """What in the options is probably not meant."""
        config, found = self.config, []
        if "test" in config.train_split:
            found = [
                f"train_split={config.train_split}: the images that evaluations measure on are "
                "trained on"
            ]
        if short_reach(config):
            found.append(f"measure_attack={shown(config.measure_attack)}: {short_reach(config)}")
        if config.step_size is None or "step_size" not in self.method.goes_by:
            return found
        radius = config.epsilon
        if config.epsilon_schedule:
            radius = max(parse_schedule(config.epsilon_schedule).values)
        complaint = reach_complaint(radius, config.steps, config.step_size)
        return [*found, f"step_size: {complaint}"] if complaint else found

    def data_digest(self) -> str:
        """Tells the training examples, and those held out, from any others."""
        held_out = self.holdout_set
        others = [] if held_out is None else [held_out.images, held_out.labels]
        return digest(self.train_set.digest(), *others)[:16]

    def order(self, epoch: int) -> np.ndarray:
        """The batches of an epoch, int32 [steps_per_epoch, batch_size]."""
        order = self.train_set.epoch_order(self.config, epoch)
        return np.repeat(order, self.method.replays, axis=0)

    def scalars_at(self, step: int, log: Sequence[Mapping[str, Any]] = ()) -> dict[str, float]:
        """The traced values of one step: ε, the step size, K's, AWP's, and the method's own.

        Args:
          step: of training.
          log: the rows of metrics.jsonl of the complete epochs.
        """
        config, epoch = self.config, step / self.steps_per_epoch
        warmup = config.epsilon_warmup_epochs
        epsilon = config.epsilon
        if config.epsilon_schedule:
            epsilon = parse_schedule(config.epsilon_schedule)(epoch)
        scalars = {
            "epsilon": warmed_up(epsilon, epoch, warmup),
            **self.method.scalars_at(epoch, log),
        }
        steps: float = config.steps
        if config.steps_schedule:
            scalars["steps"] = steps = parse_schedule(config.steps_schedule)(epoch)
        scalars["step_size"] = warmed_up(config.step_size_for(epsilon, steps), epoch, warmup)
        if config.awp_gamma:
            scalars["awp_gamma"] = config.awp_gamma * (epoch >= config.awp_warmup_epochs)
        return scalars


def create_experiment(config: TrainConfig, *, pretrained: PyTree = None) -> Experiment:
    """Builds every part; reads the data set, touches no device.

    Args:
      config: the options.
      pretrained: variables to begin with, of the run that init_from names.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    method = create_method(config)
    method.scalars_at(0.0)
    _require_fitting_options(config, method)
    train_set, holdout_set = create_train_set(config)
    _require_labels(config, method, train_set)
    height, width, channels = train_set.images.shape[1:]
    require_units(config, height * width * channels)
    require_measurable(config, train_set.num_classes)
    augmentation = (
        data.Augmentation.parse(config.augmentation)
        if config.augmentation
        else data.default_augmentation(config.dataset)
    )
    try:
        augmentation.require_fitting((height, width))
    except ValueError as error:
        raise UserError(f"augmentation={config.augmentation}: {error}") from None
    steps_per_epoch = train_set.steps_per_epoch(config) * method.replays
    if steps_per_epoch * config.epochs > LARGEST_COUNT:
        raise UserError(
            f"epochs={config.epochs}: with {steps_per_epoch} steps an epoch accepted are 1 to "
            f"{LARGEST_COUNT // steps_per_epoch}"
        )
    learning_rate = learning_rate_schedule(
        config.schedule,
        peak=config.learning_rate,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        decay_epochs=config.decay_epochs,
        decay_factors=config.decay_factors,
        warmup_epochs=config.warmup_epochs,
    )
    return Experiment(
        config=config,
        train_set=train_set,
        holdout_set=holdout_set,
        model=create_model(config, train_set.num_classes, mapped=True),
        method=method,
        learning_rate=learning_rate,
        optimizer=create_optimizer(
            config.optimizer,
            learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        ),
        settings=StepSettings(
            norm=config.norm,
            attack_steps=config.steps,
            sparsity=config.sparsity,
            augmentation=augmentation,
            batch_norm=config.batch_norm,
            ema_decay=config.ema_decay,
            mixing=data.Mixing(config.mixing, config.mixing_alpha),
            label_smoothing=config.label_smoothing,
            num_classes=train_set.num_classes,
            weight_perturbation=config.awp_gamma > 0,
            microbatch=config.microbatch,
            remat=config.remat and not models.has_option(config.model, "remat"),
            early_stop=config.early_stop,
        ),
        steps_per_epoch=steps_per_epoch,
        pretrained=pretrained,
    )


def check_experiment(config: TrainConfig) -> None:
    """Checks the options as far as that needs no data.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    method = create_method(config)
    method.scalars_at(0.0)
    _require_fitting_options(config, method)
    create_model(config, num_classes=10)


def _require_fitting_options(config: TrainConfig, method: methods.Method) -> None:
    """Refuses options that the method, or another option, cannot go with."""
    require_units(config)
    require_measurable(config)
    if "steps" in method.goes_by:
        counts = parse_schedule(config.steps_schedule).values if config.steps_schedule else ()
        if config.steps == 0 or (counts and not any(counts)):
            flag = "steps=0" if config.steps == 0 else f"steps_schedule={config.steps_schedule}"
            raise UserError(
                f"{flag}: method={config.method} attacks its images, and without a step trains "
                "on random points; accepted are 1 or more, or method=natural"
            )
    if "step_size" in method.goes_by and config.step_size == 0:
        raise UserError(
            f"step_size=0: method={config.method} attacks its images, and trains on random "
            "points where no step moves them; accepted are numbers above 0"
        )
    if not method.soft_labels:
        for option in _soft_label_options(config):
            takes = [name for name in methods.names() if methods.create(name).soft_labels]
            raise UserError(
                f"{option}: method={config.method} as it is set needs hard labels; methods that "
                f"take soft ones are {', '.join(takes)}"
            )
    microbatch.require_separable(method, config.microbatch)
    if config.steps_schedule:
        largest = max(parse_schedule(config.steps_schedule).values)
        if largest > config.steps:
            raise UserError(
                f"steps_schedule={config.steps_schedule}: {largest:g} is more than "
                f"steps={config.steps}, the largest number of steps"
            )


def _soft_label_options(config: TrainConfig) -> list[str]:
    """The options that turn labels into distributions."""
    options = {
        f"mixing={config.mixing}": config.mixing != "none",
        f"label_smoothing={config.label_smoothing:g}": config.label_smoothing > 0,
    }
    return [option for option, given in options.items() if given]


def _require_labels(config: TrainConfig, method: methods.Method, train_set: TrainSet) -> None:
    """Refuses examples without a label where one is needed."""
    if not np.any(train_set.labels < 0):
        return
    source = f"extra_data={config.extra_data} has examples without a label"
    if not method.unlabelled:
        able = [name for name in methods.names() if methods.create(name).unlabelled]
        raise UserError(
            f"{source}, which method={config.method} cannot train on; label them with "
            f"{installed.written('pseudo_label')}, or use one of {', '.join(able)}"
        )
    for option in _soft_label_options(config):
        raise UserError(f"{option}: {source}, and what is absent can be neither mixed nor smoothed")


def _require_trainable_size(config: TrainConfig, variables: PyTree) -> None:
    """Refuses a network that no machine could hold, before any of it is made."""
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
    if total > LARGEST_COUNT:
        raise UserError(
            f"model={config.model} has {total:.3g} parameters; accepted are networks of at most "
            f"{LARGEST_COUNT:.3g}"
        )


def _require_logits(
    config: TrainConfig, model: nn.Module, variables: PyTree, images: jax.Array, num_classes: int
) -> None:
    """Refuses a network of a user's that does not tell the classes of the data apart."""
    logits = jax.eval_shape(functools.partial(forward, model), variables, images)
    if logits.shape != (len(images), num_classes):
        raise UserError(
            f"model={config.model} gives {list(logits.shape)} for one image; accepted is "
            f"{[len(images), num_classes]}, a logit for each class of dataset={config.dataset}"
        )


def _require_same_shapes(config: TrainConfig, pretrained: PyTree, fresh: PyTree) -> PyTree:
    """The pretrained variables, if they are those of the same network."""

    def shapes(variables: PyTree) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(variables)
        return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}

    theirs, ours = shapes(pretrained), shapes(fresh)
    if theirs != ours:
        names = dict.fromkeys([*theirs, *ours])
        first = next(name for name in names if theirs.get(name) != ours.get(name))
        raise UserError(
            f"init_from={config.init_from} holds another network: {first} is "
            f"{theirs.get(first, 'absent')} there and {ours.get(first, 'absent')} in "
            f"model={config.model} with {len(ours)} arrays"
        )
    return jax.tree.map(lambda new, old: jnp.asarray(old, new.dtype), fresh, dict(pretrained))


def create_model(config: TrainConfig, num_classes: int, *, mapped: bool = False) -> nn.Module:
    """The network of an experiment.

    Args:
      config: names the network and its options.
      num_classes: number of logits.
      mapped: whether it will run mapped over devices, where global batch norm averages.
    """
    options = config.network_options()
    try:
        if config.remat and models.has_option(config.model, "remat"):
            options["remat"] = True
        return models.create(
            config.model,
            num_classes=num_classes,
            dtype=jnp.dtype(config.precision),
            axis_name=parallel.AXIS if mapped and config.batch_norm == "global" else None,
            **options,
        )
    except ValueError as error:
        if own_code.is_own(config.model):
            raise  # Says what it is about, or is an error of the user's code, with its traceback.
        raise UserError(f"model={config.model}: {error}") from error


def create_method(config: TrainConfig) -> methods.Method:
    """The training method of an experiment, hyper-parameters applied."""
    if config.is_imported:
        raise UserError(
            f"method={config.method}: the weights were trained elsewhere, and cannot be trained on "
            "as they were; begin a run with them by init_from=DIR, in another workdir"
        )
    try:
        return methods.create(config.method, **config.hyperparameters())
    except own_code.OwnCodeError:
        raise
    except ValueError as error:
        if own_code.is_own(config.method):
            raise
        raise UserError(f"method={config.method}: {error}") from error


def with_objects(
    config: TrainConfig, *, model: Any = None, method: Any = None, dataset: Any = None
) -> TrainConfig:
    """The options with the names of what is given, by which it is found from now on.

    Args:
      config: the options.
      model: see `models.give`; None: as the options say.
      method: see `methods.give`; likewise.
      dataset: see `data.give`; likewise.

    Raises:
      ValueError: an object is not of the kind that is accepted.
    """
    doors: dict[str, tuple[Any, Callable[[Any], str]]] = {
        "model": (model, models.give),
        "method": (method, methods.give),
        "dataset": (dataset, data.give),
    }
    given: dict[str, Any] = {
        name: give(thing) for name, (thing, give) in doors.items() if thing is not None
    }
    return dataclasses.replace(config, **given)
