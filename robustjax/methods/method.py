"""What a training method is: how adversarial images are found, and which loss is minimised.

The train step is the same for every method. It hands `perturb` a batch and takes the perturbed
images back, then hands both to `outer`, differentiates the mean of the per-example losses, and
updates the parameters. Everything here is a value or a pure function.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax

from robustjax.attacks import ThreatModel

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


class InnerAttack(NamedTuple):
    """The inner maximisation's settings at this step; all but `steps` may be traced.

    Attributes:
      threat: the norm ball and the box.
      steps: the largest number of gradient steps.
      step_size: the size of one step, in the units of the norm.
    """

    threat: ThreatModel
    steps: int
    step_size: jax.Array | float


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


class Outer(NamedTuple):
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


class Perturb(Protocol):
    """Finds the adversarial image of every example of a batch."""

    def __call__(
        self,
        keys: jax.Array,
        network: Network,
        batch: Batch,
        attack: InnerAttack,
        scalars: Mapping[str, jax.Array],
        memory: PyTree,
    ) -> Perturbation:
        """Runs the inner maximisation with one random key per example."""


class OuterLoss(Protocol):
    """Computes the loss per example from clean and perturbed images."""

    def __call__(
        self,
        key: jax.Array,
        network: Network,
        batch: Batch,
        perturbation: Perturbation,
        scalars: Mapping[str, jax.Array],
    ) -> Outer:
        """Makes the forward passes in the method's order and returns the loss per example."""


def no_memory(num_examples: int) -> PyTree:
    """The memory of a method that remembers nothing about an example."""
    del num_examples
    return ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: an inner maximisation and an outer loss.

    Attributes:
      name: its name in the registry.
      perturb: the inner maximisation.
      outer: the outer loss.
      init: num_examples -> the per-example memory, a pytree of arrays [num_examples, ...].
      scalars: numeric hyper-parameters that the step receives as traced values, so that a schedule
        may change them every step without recompiling: a number, or a function of the epoch
        (a float: 1.5 is the middle of the second epoch).
      attack_batch_norm: "eval" (running statistics) or "train" (the batch's statistics, which
        needs a network with batch norm): what the inner maximisation normalises with.
    """

    name: str
    perturb: Perturb
    outer: OuterLoss
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

    def scalars_at(self, epoch: float) -> dict[str, float]:
        """The numeric hyper-parameters at an epoch, schedules evaluated."""
        return {
            name: float(value(epoch) if callable(value) else value)
            for name, value in self.scalars.items()
        }
