"""The attack that measures robust accuracy after each epoch, as the options of a run name it."""

import dataclasses
import warnings
from typing import Any, cast

import jax
import numpy as np

from robustjax import attacks
from robustjax.arguments import did_you_mean, shown
from robustjax.attacks import naming, registry
from robustjax.attacks.attack import Attack
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.step_size import default_step_size, reach_complaint

ACCEPTED = registry.accepted(registry.GRADIENT_STEPS)

_DISTANCES = ("step_size", "noise")


def measuring_attack(config: TrainConfig) -> Attack:
    """What measures: the attack of measure_attack, or PGD of measure_steps.

    A step size that is not given follows from the radius that is measured, see
    `step_size.default_step_size`.

    Args:
      config: the options.

    Raises:
      ValueError: measure_attack is not one of `ACCEPTED`, or has a setting that is not accepted.
    """
    if config.measure_attack:
        attack: Any = _named(config).attack
    else:
        attack = attacks.PGD(steps=config.measure_steps)
    if getattr(attack, "step_size", 0) is None:
        size = default_step_size(config.test_epsilon, attack.steps)
        attack = dataclasses.replace(attack, step_size=size)
    return cast(Attack, attack)


def own_distances(config: TrainConfig) -> dict[str, float]:
    """What measure_attack gives as distances, in units of the images, by what says them."""
    if not config.measure_attack:
        return {}
    named = _named(config)
    values = {name: getattr(named.attack, name) for name in _DISTANCES if name in named.given}
    return {
        f"measure_attack={shown(config.measure_attack)}: {name} {value:g}": value
        for name, value in values.items()
        if value is not None
    }


def require_measurable(config: TrainConfig, num_classes: int = 10) -> None:
    """Sees before training that what measures after each epoch can be run.

    Args:
      config: the options.
      num_classes: of the network.

    Raises:
      ValueError: names the option, the value and what is accepted: measure_attack is no such
        attack, or not made for the norm or so few classes, or measure_steps is given beside it.
    """
    text = config.measure_attack
    if not text:
        return
    attack = measuring_attack(config)
    usual = TrainConfig.measure_steps
    if config.measure_steps != usual:
        raise UserError(
            f"measure_steps={config.measure_steps}: measure_attack={shown(text)} says how many "
            f"steps there are; accepted beside it is {usual}, the default"
        )
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), np.float32)
    labels = jax.ShapeDtypeStruct((2,), np.int32)
    threat = attacks.ThreatModel(config.norm, config.test_epsilon)

    def attacked(images: jax.Array, labels: jax.Array) -> jax.Array:
        def network(images: jax.Array) -> jax.Array:
            return images.reshape(len(images), -1)[:, :num_classes]

        return attack(jax.random.key(0), network, images, labels, threat).images

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Short steps are among the experiment's warnings.
            jax.eval_shape(attacked, images, labels)
    except ValueError as error:
        raise UserError(f"measure_attack={shown(text)}: not accepted ({error})") from None


def short_reach(config: TrainConfig) -> str:
    """What is wrong with a step size of measure_attack that is too short; "" if nothing is."""
    attack: Any = measuring_attack(config)
    if getattr(attack, "step_size", None) is None:
        return ""
    return reach_complaint(config.test_epsilon, attack.steps, attack.step_size)


def describe(config: TrainConfig, train_examples: int, held_out: int | None) -> str:
    """One line: what measures robust accuracy, and on what.

    Args:
      config: the options.
      train_examples: how many training examples are measured.
      held_out: how many that are held out; None if none are.
    """
    attack: Any = measuring_attack(config)
    size = getattr(attack, "step_size", None)
    if size is None:
        name, step = naming.name_of(attack), ""
    else:
        name = naming.name_of(dataclasses.replace(attack, step_size=None))
        step = f", step size {size:.3g}"
    ball = f"ε {config.test_epsilon:.3g}" + ("" if config.norm == "linf" else f" ({config.norm})")
    examples = f"{train_examples} training examples"
    if held_out is not None:
        examples += f" and {held_out} held-out"
    return f"robust accuracy after each epoch: {name}{step}, {ball}, on {examples}"


def _named(config: TrainConfig) -> naming.Named:
    """What measure_attack stands for."""
    text = config.measure_attack
    plain = text.partition("(")[0]
    try:
        kind = naming.parse(plain).kind
    except ValueError:
        kind = ""
    closed = text == plain or text.endswith(")")
    if kind not in registry.GRADIENT_STEPS or not closed:
        hint = did_you_mean(plain, ("fgsm", "fgsm-random", "pgd-20", "cw-30"))
        raise UserError(f"measure_attack={shown(text)}: accepted are {ACCEPTED}{hint}")
    try:
        return naming.parse(text)
    except ValueError as error:
        said = str(error).removeprefix(f"attack={shown(text)}: ")
        raise UserError(f"measure_attack={shown(text)}: {said}") from None
