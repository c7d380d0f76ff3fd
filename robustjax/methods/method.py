"""What a training method is: how adversarial images are found, and which loss is minimised.

The train step is the same for every method. It hands `perturb` a batch and takes the perturbed
images back, then hands both to `outer`, differentiates the mean of the per-example losses, and
updates the parameters. Everything here is a value or a pure function.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from robustjax import attacks
from robustjax.attacks.pgd import STARTS

PyTree = Any


class Batch(NamedTuple):
    """One device's share of a batch.

    Attributes:
      images: float32 [B, H, W, C] in [0, 1], augmented.
      labels: int32 [B].
      index: int32 [B], the position of each example in the training set.
      weight: float32 [B], the weight of each example in the loss.
    """

    images: jax.Array
    labels: jax.Array
    index: jax.Array
    weight: jax.Array


class Perturbation(NamedTuple):
    """What the inner maximisation found.

    Attributes:
      images: float32 [B, H, W, C].
      backward_passes: int32 [B], gradients computed for each example.
      memory: the rows of the method's per-example memory, updated; same structure as given.
    """

    images: jax.Array
    backward_passes: jax.Array
    memory: PyTree = ()


class Objective(NamedTuple):
    """What the outer minimisation returns.

    Attributes:
      loss: float32 [B], not yet weighted or reduced.
      statistics: the batch-norm statistics after the method's forward passes, in its order.
    """

    loss: jax.Array
    statistics: PyTree


class Network(Protocol):
    """The network as a method sees it: bound to one set of variables, and immutable.

    `robustjax.training.network.BoundNetwork` is the implementation.
    """

    @property
    def statistics(self) -> PyTree:
        """The running batch-norm statistics, as the forward passes so far have left them."""

    def logits_fn(self, batch_norm: str) -> Callable[[jax.Array], jax.Array]:
        """For attacks: no dropout; batch norm by "eval" or "train" statistics, never updated."""

    def train(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, "Network"]:
        """One outer forward pass: logits [B, K], and the network with its statistics updated."""


class Inner(NamedTuple):
    """The inner maximisation's problem, for one device's share of a batch.

    Attributes:
      keys: one random key per example, [B].
      network: bound to the current weights.
      batch: the clean images and their labels.
      threat: the norm ball and the box; epsilon is traced.
      steps: the largest number of gradient steps, K.
      step_size: the size of one step, in units of the images; traced.
      scalars: the method's numeric hyper-parameters at this step; traced.
      memory: what the method remembers of these examples, leaves [B, ...].
    """

    keys: jax.Array
    network: Network
    batch: Batch
    threat: attacks.ThreatModel
    steps: int
    step_size: jax.Array
    scalars: Mapping[str, jax.Array]
    memory: PyTree

    def pgd(
        self, logits_fn: Callable[[jax.Array], jax.Array], **options: Any
    ) -> attacks.AttackResult:
        """`attacks.pgd` on this problem; options go to it and override what the problem says."""
        settings = {"steps": self.steps, "step_size": self.step_size, **options}
        images, labels = self.batch.images, self.batch.labels
        return attacks.pgd(self.keys, logits_fn, images, labels, self.threat, **settings)

    def found(self, result: attacks.AttackResult) -> Perturbation:
        """The result of an attack as the perturbation, the memory left as it was."""
        return Perturbation(result.images, result.backward_passes, self.memory)


class Outer(NamedTuple):
    """The outer minimisation's problem, for one device's share of a batch.

    Attributes:
      key: draws the dropout masks; the same on every device.
      network: bound to the weights that the loss is differentiated by.
      batch: the clean images, their labels and weights.
      perturbation: what the inner maximisation found; no gradient flows through it.
      scalars: the method's numeric hyper-parameters at this step; traced.
    """

    key: jax.Array
    network: Network
    batch: Batch
    perturbation: Perturbation
    scalars: Mapping[str, jax.Array]


def require_number(name: str, value: Any) -> None:
    """Refuses what is not a finite number.

    Raises:
      ValueError: names the hyper-parameter and the value.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        raise ValueError(f"{name}={value!r}: accepted is a finite number")


def require_start(start: str) -> None:
    """Refuses a start that PGD does not know by name.

    Raises:
      ValueError: names the start and those there are.
    """
    if start not in STARTS:
        raise ValueError(f"start={start!r}: accepted are {', '.join(STARTS)}")


def no_memory(num_examples: int) -> PyTree:
    """The memory of a method that remembers nothing about an example."""
    del num_examples
    return ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: an inner maximisation and an outer loss.

    Attributes:
      name: its name in the registry.
      perturb: solves the inner problem; may call `pgd` any number of times.
      outer: makes the forward passes of the outer problem in the method's order.
      init: num_examples -> the per-example memory, a pytree of arrays [num_examples, ...].
      scalars: numeric hyper-parameters that the step receives as traced values, so that a schedule
        may change them every step without recompiling: a number, or a function of the epoch
        (a float: 1.5 is the middle of the second epoch).
      attack_batch_norm: "eval" (running statistics) or "train" (the batch's statistics, which
        needs a network with batch norm): what the inner maximisation normalises with.
    """

    name: str
    perturb: Callable[[Inner], Perturbation]
    outer: Callable[[Outer], Objective]
    init: Callable[[int], PyTree] = no_memory
    scalars: Mapping[str, float | Callable[[float], float]] = dataclasses.field(
        default_factory=dict
    )
    attack_batch_norm: str = "eval"

    def __post_init__(self) -> None:
        if self.attack_batch_norm not in ("eval", "train"):
            raise ValueError(
                f"attack_batch_norm={self.attack_batch_norm!r}: accepted are 'eval' (running "
                "statistics) and 'train' (the batch's statistics)"
            )
        for name, value in self.scalars.items():
            if not callable(value):
                require_number(name, value)

    def scalars_at(self, epoch: float) -> dict[str, float]:
        """The numeric hyper-parameters at an epoch, schedules evaluated."""
        return {
            name: float(value(epoch) if callable(value) else value)
            for name, value in self.scalars.items()
        }
