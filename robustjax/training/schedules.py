"""Learning rates and perturbation sizes as functions of the epoch."""

from collections.abc import Iterable, Sequence

import optax
from jax.typing import ArrayLike

from robustjax.arguments import (
    LARGEST_COUNT,
    LARGEST_FLOAT32,
    did_you_mean,
    require_finite,
    require_whole,
    shown,
)
from robustjax.errors import UserError

KINDS = ("constant", "piecewise", "cosine", "cyclic")


def learning_rate_schedule(
    kind: str,
    *,
    peak: float,
    epochs: float,
    steps_per_epoch: int,
    decay_epochs: Sequence[float] = (),
    decay_factors: Sequence[float] = (),
    warmup_epochs: float = 0.0,
) -> optax.Schedule:
    """The learning rate as a function of the step, stated in epochs.

    Args:
      kind: "constant"; "piecewise" (multiplied by each factor once its epoch has been completed);
        "cosine" (from the peak to 0 over the epochs after the warm-up); "cyclic" (linear from 0 to
        the peak at two fifths of training and back to 0, at each step's end, as in Wong et al.
        (2020)'s code for MNIST; that for CIFAR-10 has the peak at half).
      peak: the learning rate that the kind starts from or rises to.
      epochs: the length of training.
      steps_per_epoch: how many steps make an epoch.
      decay_epochs: "piecewise" only: epochs after which the rate falls, increasing.
      decay_factors: what it is multiplied with, one for each decay epoch, or one for all.
      warmup_epochs: linear rise from 0 to the peak before anything else.

    Raises:
      ValueError: an unknown kind, or lists that do not fit each other.
    """
    _check_numbers(peak, epochs, steps_per_epoch, warmup_epochs)
    total_steps = round(epochs * steps_per_epoch)
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if not 0 <= warmup_steps < max(total_steps, 1):
        raise UserError(
            f"warmup_epochs={warmup_epochs:g}: accepted are 0 to less than epochs={epochs:g}"
        )
    if kind == "cyclic" and warmup_steps:
        raise UserError("schedule=cyclic rises from 0 by itself; leave out warmup_epochs")
    main: optax.Schedule
    if kind == "constant":
        main = optax.constant_schedule(peak)
    elif kind == "piecewise":
        drops = _piecewise_factors(decay_epochs, decay_factors)
        if drops and min(drops) <= warmup_epochs:
            raise UserError(
                f"decay_epochs: the first, {min(drops):g}, must lie after the "
                f"warmup_epochs={warmup_epochs:g}"
            )
        boundaries: dict[int, float] = {}
        for epoch, factor in drops.items():
            step = round(epoch * steps_per_epoch) - warmup_steps
            boundaries[step] = factor * boundaries.get(step, 1.0)
        main = optax.piecewise_constant_schedule(peak, boundaries)
    elif kind == "cosine":
        main = optax.cosine_decay_schedule(peak, max(total_steps - warmup_steps, 1))
    elif kind == "cyclic":
        summit = round(0.4 * total_steps)
        triangle = optax.join_schedules(
            [
                optax.linear_schedule(0.0, peak, summit),
                optax.linear_schedule(peak, 0.0, total_steps - summit),
            ],
            [summit],
        )

        def one_later(step: ArrayLike) -> ArrayLike:
            return triangle(step + 1)

        main = one_later
    else:
        raise UserError(
            f"schedule={kind!r}: accepted are {', '.join(KINDS)}{did_you_mean(kind, KINDS)}"
        )
    if not warmup_steps:
        return main
    rise = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
    return optax.join_schedules([rise, main], [warmup_steps])


def depends_on_length(kind: str) -> bool:
    """Whether the first epochs of this schedule change when training is made longer."""
    return kind in ("cosine", "cyclic")


def warmed_up(value: float, epoch: float, warmup_epochs: float) -> float:
    """A value that rises linearly from 0 over the first `warmup_epochs` epochs."""
    if warmup_epochs <= 0:
        return value
    return value * min(epoch / warmup_epochs, 1.0)


def _check_numbers(peak: float, epochs: float, steps_per_epoch: int, warmup_epochs: float) -> None:
    require_finite("learning_rate", peak, 0)
    require_whole("steps_per_epoch", steps_per_epoch, 1)
    require_finite("epochs", epochs, 0, LARGEST_COUNT / steps_per_epoch)
    require_finite("warmup_epochs", warmup_epochs, 0)


def _require_numbers(name: str, values: Sequence[float]) -> None:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise UserError(f"{name}={shown(values)}: accepted is a sequence of numbers, as (75, 90)")
    for value in values:
        require_finite(name, value, 0, LARGEST_FLOAT32)


def _piecewise_factors(epochs: Sequence[float], factors: Sequence[float]) -> dict[float, float]:
    _require_numbers("decay_epochs", epochs)
    _require_numbers("decay_factors", factors)
    if list(epochs) != sorted(set(epochs)) or any(epoch <= 0 for epoch in epochs):
        raise UserError(
            f"decay_epochs={','.join(f'{epoch:g}' for epoch in epochs)}: accepted are positive, "
            "increasing epochs"
        )
    if len(factors) == 1:
        factors = list(factors) * len(epochs)
    if len(factors) != len(epochs):
        raise UserError(
            f"decay_factors has {len(factors)} values and decay_epochs {len(epochs)}; give one "
            "factor for each epoch, or one for all"
        )
    return dict(zip(epochs, factors, strict=True))
