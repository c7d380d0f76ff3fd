"""The flags that the benchmarks of a training step share."""

import itertools
from collections.abc import Iterator

import jax
from absl import flags

from benchmarks import precision
from benchmarks.method_work import METHODS
from benchmarks.workload import Setting
from robustjax import models
from robustjax.errors import UserError

GROUPS = {
    "what": ["models", "methods", "precision"],
    "size": ["batch_size", "steps", "image_size"],
    "run": ["rounds", "steps_per_run", "seed", "output"],
}


def define() -> None:
    """Defines the flags; those without a default have one that depends on the platform."""
    flags.DEFINE_list(
        "models",
        None,
        "networks [resnet_18,wide_resnet_16_4, on an accelerator also wide_resnet_34_10]",
    )
    flags.DEFINE_list("methods", list(METHODS), "training methods")
    flags.DEFINE_list(
        "precision",
        None,
        f"any of {', '.join(precision.PRECISIONS)} [float32, on a GPU tf32,bfloat16]",
    )
    flags.DEFINE_integer("batch_size", None, "images in a step [32, on an accelerator 128]")
    flags.DEFINE_integer("steps", 10, "steps of the attack, K")
    flags.DEFINE_integer("image_size", 32, "height and width of the images")
    flags.DEFINE_integer("rounds", None, "how often each side is timed [7, on an accelerator 15]")
    flags.DEFINE_integer(
        "steps_per_run", None, "training steps that are timed together [1, on an accelerator 10]"
    )
    flags.DEFINE_integer("seed", 0, "of the weights, the images and the random starts")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def settings() -> list[Setting]:
    """What the parsed flags ask for: every precision, network and method.

    Raises:
      UserError: a value that is not accepted.
    """
    values = flags.FLAGS
    on_cpu = jax.default_backend() == "cpu"
    for name in ("batch_size", "steps", "image_size", "rounds", "steps_per_run"):
        given = values[name].value
        if given is not None and given < 1:
            raise UserError(f"--{name}={given}: accepted are 1 or more")
    networks = values.models or ["resnet_18", "wide_resnet_16_4"]
    if values.models is None and not on_cpu:
        networks.append("wide_resnet_34_10")
    precisions = values.precision or precision.defaults()
    require_known("precision", precisions, precision.PRECISIONS)
    require_known("methods", values.methods, METHODS)
    require_networks(networks)
    return [
        Setting(
            method=method,
            model=network,
            batch_size=values.batch_size or (32 if on_cpu else 128),
            steps=values.steps,
            precision=kind,
            image_size=values.image_size,
            seed=values.seed,
        )
        for kind, network, method in itertools.product(precisions, networks, values.methods)
    ]


def rounds() -> int:
    """How often each side is timed."""
    return flags.FLAGS.rounds or (7 if jax.default_backend() == "cpu" else 15)


def steps_per_run() -> int:
    """Training steps between two looks at the clock."""
    return flags.FLAGS.steps_per_run or (1 if jax.default_backend() == "cpu" else 10)


def by_precision(wanted: list[Setting]) -> Iterator[tuple[str, list[Setting]]]:
    """The settings in groups of one precision, which is set for the process first."""
    for kind, group in itertools.groupby(wanted, lambda setting: setting.precision):
        precision.set_up(kind)
        yield kind, list(group)


def require_networks(names: list[str]) -> None:
    """Refuses an unknown network of --models.

    Raises:
      UserError: names the flag, the entry and what is accepted.
    """
    for name in names:
        try:
            models.create(name)
        except ValueError as error:
            raise UserError(f"--models={name}: {error}") from error


def require_known(flag: str, values: list[str], accepted) -> None:
    """Refuses a list flag with an unknown entry.

    Raises:
      UserError: names the flag, the entry and what is accepted.
    """
    for value in values:
        if value not in accepted:
            raise UserError(f"--{flag}={value}: accepted are {', '.join(accepted)}")
