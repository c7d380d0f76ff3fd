"""Turns the options of an experiment into its parts: data, network, method, optimiser, schedule."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from robustjax import data, methods, models, parallel
from robustjax.config import TrainConfig
from robustjax.training.optimizer import create_optimizer
from robustjax.training.schedules import learning_rate_schedule, warmed_up
from robustjax.training.state import TrainState, create_state
from robustjax.training.step import StepSettings


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of one training run, ready for the loop."""

    config: TrainConfig
    train_set: data.Dataset
    holdout_set: data.Dataset | None
    model: nn.Module
    method: methods.Method
    learning_rate: optax.Schedule
    optimizer: optax.GradientTransformation
    settings: StepSettings
    steps_per_epoch: int

    def initial_state(self) -> TrainState:
        """The state before the first step, from the seed."""
        images = jnp.zeros((1, *self.train_set.images.shape[1:]), jnp.float32)
        variables = jax.jit(self.model.init)(jax.random.key(self.config.seed), images)
        if self.method.attack_batch_norm == "train" and "batch_stats" not in variables:
            raise ValueError(
                f"--method={self.method.name} with attack_batch_norm=train needs batch norm, which "
                f"--model={self.config.model} lacks; use --attack_batch_norm=eval or another model"
            )
        return create_state(
            variables,
            self.optimizer,
            self.method.init(len(self.train_set.labels)),
            with_average=self.config.ema_decay > 0,
        )

    def scalars_at(self, step: int) -> dict[str, float]:
        """The traced values of one step: ε, the step size, and the method's own."""
        config, epoch = self.config, step / self.steps_per_epoch
        warmup = config.epsilon_warmup_epochs
        return {
            "epsilon": warmed_up(config.epsilon, epoch, warmup),
            "step_size": warmed_up(config.step_size, epoch, warmup),
            **self.method.scalars_at(epoch),
        }


def create_experiment(config: TrainConfig) -> Experiment:
    """Builds every part; reads the data set, touches no device.

    Raises:
      ValueError: an option has a value that is not accepted; the message names the flag.
    """
    method = create_method(config)
    method.scalars_at(0.0)
    whole = data.load(config.dataset, config.train_split, data_dir=config.data_dir or None)
    size = data.default_holdout(len(whole.labels)) if config.holdout < 0 else config.holdout
    train_set, holdout_set = data.hold_out(whole, size)
    augmentation = (
        data.Augmentation.parse(config.augmentation)
        if config.augmentation
        else data.default_augmentation(config.dataset)
    )
    if config.batch_size > len(train_set.labels):
        raise ValueError(
            f"--batch_size={config.batch_size}: there are only {len(train_set.labels)} training "
            "examples"
        )
    steps_per_epoch = len(train_set.labels) // config.batch_size
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
            augmentation=augmentation,
            batch_norm=config.batch_norm,
            ema_decay=config.ema_decay,
        ),
        steps_per_epoch=steps_per_epoch,
    )


def create_model(config: TrainConfig, num_classes: int, *, mapped: bool = False) -> nn.Module:
    """The network of an experiment.

    Args:
      config: names the network and its options.
      num_classes: number of logits.
      mapped: whether it will run mapped over devices, where global batch norm averages.
    """
    options = {"activation": config.activation} if config.activation else {}
    try:
        return models.create(
            config.model,
            num_classes=num_classes,
            dtype=jnp.dtype(config.precision),
            axis_name=parallel.AXIS if mapped and config.batch_norm == "global" else None,
            **options,
        )
    except ValueError as error:
        raise ValueError(f"--model={config.model}: {error}") from error


def create_method(config: TrainConfig) -> methods.Method:
    """The training method of an experiment, hyper-parameters applied."""
    try:
        return methods.create(config.method, **config.hyperparameters())
    except ValueError as error:
        raise ValueError(f"--method={config.method}: {error}") from error
