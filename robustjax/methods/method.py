"""What a training method is: how adversarial images are found, and which loss is minimised.

The train step is the same for every method. It hands `perturb` a batch and takes the perturbed
images back, then hands both to `outer`, differentiates the mean of the per-example losses, and
updates the parameters. Everything here is a value or a pure function.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from robustjax import attacks, platforms
from robustjax.arguments import require_choice
from robustjax.epoch_schedule import Scalar, checked_scalar
from robustjax.shapes import CountPerImage, Images, PerImage

PyTree = Any


class Batch(NamedTuple):
    """One device's share of a batch.

    Attributes:
      images: float32 [B, H, W, C] in [0, 1], augmented (and mixed, if that was asked for).
      labels: int32 [B], -1 where an example has no label (only for methods that are `unlabelled`);
        or float32 [B, K], a distribution in each row, if labels are smoothed or images mixed (only
        for methods that take `soft_labels`).
      index: int32 [B], the position of each example in the training set.
      weight: float32 [B], the weight of each example in the loss.
    """

    images: jax.Array
    labels: jax.Array
    index: jax.Array  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    weight: jax.Array


class Perturbation(NamedTuple):
    """What the inner maximisation found.

    Attributes:
      images: float32 [B, H, W, C].
      backward_passes: int32 [B], gradients computed for each example.
      memory: the rows of the method's per-example memory, updated; same structure as given.
      notes: whatever else `perturb` tells `outer` of each example; leaves [B, ...].
    """

    images: Images
    backward_passes: CountPerImage
    memory: PyTree = ()
    notes: PyTree = ()


class Objective(NamedTuple):
    """What the outer minimisation returns.

    Attributes:
      loss: float32 [B], not yet weighted or reduced.
      statistics: the batch-norm statistics after the method's forward passes, in its order.
    """

    loss: PerImage
    statistics: PyTree


class Network(Protocol):
    """The network of the outer problem: bound to one set of variables, and immutable.

    `robustjax.training.BoundNetwork` is the implementation.
    """

    @property
    def statistics(self) -> PyTree:
        """The running batch-norm statistics, as the forward passes so far have left them."""

    def train(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, "Network"]:
        """One outer forward pass: logits [B, K], and the network with its statistics updated."""


class Inner(NamedTuple):
    """The inner maximisation's problem, for one device's share of a batch.

    Attributes:
      keys: one random key per example, [B].
      positions: int32 [B], the place of each example in the batch over all devices.
      batch_size: examples over all devices.
      logits_fn: the network that is attacked, images -> logits: at the current weights, without
        dropout, batch norm as the method's `attack_batch_norm` says; no statistics are updated.
      batch: the clean images and their labels.
      threat: the norm ball and the box; epsilon is traced.
      steps: the largest number of gradient steps, K.
      budget: int32, the steps to take at this moment, at most `steps`; traced. None: `steps`.
      step_size: the size of one step, in units of the images; traced.
      sparsity: the share of an image's numbers that a step moves under "l1", see `attacks.pgd`.
      scalars: the method's numeric hyper-parameters at this step; traced.
      memory: what the method remembers of these examples, leaves [B, ...].
      independent_rows: whether `logits_fn` treats every image by itself, see `attacks.pgd`.
      early_stop: whether examples that have stopped are computed all the same ("scan") or not
        ("compact"), where rows are independent; "": what suits the platform that the program is
        compiled for, "compact" on a CPU and "scan" elsewhere.
    """

    keys: jax.Array
    positions: jax.Array
    batch_size: int
    logits_fn: Callable[[jax.Array], jax.Array]
    batch: Batch
    threat: attacks.ThreatModel
    steps: int
    step_size: jax.Array
    scalars: Mapping[str, jax.Array]
    memory: PyTree = ()
    budget: jax.Array | None = None
    independent_rows: bool = False
    early_stop: str = ""
    sparsity: float | None = None

    @property
    def steps_now(self) -> jax.Array | int:
        """The steps to take at this moment, at least 1, for what divides by them."""
        return self.steps if self.budget is None else jnp.maximum(self.budget, 1)

    def pgd(
        self,
        *,
        labels: jax.Array | None = None,
        threat: attacks.ThreatModel | None = None,
        budget: jax.Array | None = None,
        **options: Any,
    ) -> attacks.AttackResult:
        """`attacks.pgd` on this problem; what is given overrides what the problem says.

        A budget is capped by the problem's own: both follow schedules under one compiled program.
        A loss with arrays of the batch must take them as `target`, row by row.
        """
        if budget is None:
            budget = self.budget
        elif self.budget is not None:
            budget = jnp.minimum(budget, self.budget)
        own = {name: getattr(self, name) for name in ("steps", "step_size", "sparsity")}
        settings = {**own, **options}
        independent_rows = settings.pop("independent_rows", self.independent_rows)
        attack = functools.partial(
            attacks.pgd,
            self.keys,
            self.logits_fn,
            self.batch.images,
            self.batch.labels if labels is None else labels,
            self.threat if threat is None else threat,
            budget=budget,
            **settings,
        )
        may_stop = budget is not None or settings.keys() & {"stop", "success", "restarts"}
        if not (may_stop and independent_rows) or self.early_stop:
            return attack(independent_rows=independent_rows and self.early_stop != "scan")
        return platforms.for_platform(
            cpu=lambda: attack(independent_rows=True), other=lambda: attack(independent_rows=False)
        )

    def found(self, result: attacks.AttackResult, notes: PyTree = ()) -> Perturbation:
        """The result of an attack as the perturbation, the memory left as it was."""
        return Perturbation(result.images, result.backward_passes, self.memory, notes)

    def clean(self) -> Perturbation:
        """No perturbation at all."""
        no_passes = jnp.zeros(self.positions.shape, jnp.int32)
        return Perturbation(self.batch.images, no_passes, self.memory)


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


def no_memory(rows: int, image_shape: tuple[int, ...] = ()) -> PyTree:
    """The memory of a method that remembers nothing."""
    del rows, image_shape
    return ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: an inner maximisation and an outer loss.

    Attributes:
      name: its name in the registry.
      perturb: solves the inner problem; may call `pgd` any number of times.
      outer: makes the forward passes of the outer problem in the method's order.
      init: (rows, image_shape) -> the memory, a pytree of arrays [rows, ...].
      memory_of: what a row of the memory belongs to: an "example" of the training set, or a
        "position" in the batch over all devices.
      remember: (inner, perturbation, gradient) -> the rows of the memory after the step, for a
        method that learns from the gradient [B, H, W, C] of the weighted outer loss with respect
        to the perturbed images; it is computed along with that of the weights. Without it
        `perturbation.memory` is what is kept.
      scalars: numeric hyper-parameters that the step receives as traced values, so that a schedule
        may change them every step without recompiling: a number, a function of the epoch (a
        float: 1.5 is the middle of the second epoch), or the text of one (`epoch_schedule`).
      curriculum: the rows of the log so far -> scalars that depend on how training went.
      attack_batch_norm: "eval" (running statistics) or "train" (the batch's statistics, which
        needs a network with batch norm): what the inner maximisation normalises with.
      replays: how many steps in a row are made on each batch, augmented and mixed alike.
      soft_labels: whether labels may be distributions (label smoothing, mixup, CutMix).
      unlabelled: whether examples may lack a label (-1).
      goes_by: of "steps" and "step_size", the options that the perturbation goes by.
      couples_rows: whether the perturbation or the loss of an example depends on other examples of
        the batch, batch norm aside; then a batch cannot be worked on in parts.
    """

    name: str
    perturb: Callable[[Inner], Perturbation]
    outer: Callable[[Outer], Objective]
    init: Callable[[int, tuple[int, ...]], PyTree] = no_memory
    memory_of: str = "example"
    remember: Callable[[Inner, Perturbation, jax.Array], PyTree] | None = None
    scalars: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    curriculum: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, float]] | None = None
    attack_batch_norm: str = "eval"
    replays: int = 1
    soft_labels: bool = True
    unlabelled: bool = False
    couples_rows: bool = False
    goes_by: tuple[str, ...] = ("steps", "step_size")

    def __post_init__(self) -> None:
        require_choice("attack_batch_norm", self.attack_batch_norm, ("eval", "train"))
        require_choice("memory_of", self.memory_of, ("example", "position"))
        checked = {name: checked_scalar(name, value) for name, value in self.scalars.items()}
        object.__setattr__(self, "scalars", checked)

    def scalars_at(self, epoch: float, log: Sequence[Mapping[str, Any]] = ()) -> dict[str, float]:
        """The numeric hyper-parameters at an epoch, schedules evaluated.

        Args:
          epoch: complete epochs, with the fraction of the current one.
          log: the rows of metrics.jsonl of the complete epochs.
        """
        values = {
            name: float(value(epoch) if callable(value) else value)
            for name, value in self.scalars.items()
        }
        if self.curriculum is not None:
            values |= {name: float(value) for name, value in self.curriculum(log).items()}
        return values
