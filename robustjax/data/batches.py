"""The order in which an epoch visits the training set."""

import math

import numpy as np

from robustjax.arguments import is_number, is_whole, require_whole, shown
from robustjax.errors import UserError


def epoch_order(seed: int, epoch: int, num_examples: int, batch_size: int) -> np.ndarray:
    """Shuffle the examples of one epoch into full batches.

    A function of (seed, epoch) alone, so a resumed run sees the order of an unbroken one. The
    incomplete last batch is dropped; which examples fall into it changes every epoch.

    Args:
        seed: Seed of the run, at least 0.
        epoch: Number of the epoch, at least 0.
        num_examples: Size N of the training set.
        batch_size: Examples per batch over all devices and processes, 1..N.

    Returns:
        Positions in the training set, int32 [N // batch_size, batch_size], no two equal.

    Raises:
        ValueError: If an argument is out of range.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    for name, value in (("seed", seed), ("epoch", epoch)):
        require_whole(name, value, most=math.inf, accepted="whole numbers, 0 or more")
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    return _shuffled(generator, num_examples)[: steps * batch_size].reshape(steps, batch_size)


def mixed_epoch_order(
    seed: int,
    epoch: int,
    num_labelled: int,
    num_extra: int,
    batch_size: int,
    extra_fraction: float,
) -> np.ndarray:
    """Shuffle labelled and extra examples into batches that hold a fixed share of each.

    An epoch is one pass over the labelled examples: each occurs once, but for those of the
    incomplete last batch. Extra examples are drawn without replacement, over again when the set is
    used up, each epoch beginning with a new shuffle. (RST's code instead draws the extra half with
    replacement and calls N / batch_size batches an epoch, half a pass over the labelled examples.)
    Within a batch the two kinds are shuffled, so that every device gets both.

    Args:
        seed: Seed of the run, at least 0.
        epoch: Number of the epoch, at least 0.
        num_labelled: Number N of labelled examples, at positions 0..N - 1.
        num_extra: Number M of extra examples, at positions N..N + M - 1.
        batch_size: Examples per batch over all devices and processes.
        extra_fraction: Share of a batch that is extra, in (0, 1), rounded to whole examples.

    Returns:
        Positions, int32 [steps, batch_size].

    Raises:
        ValueError: If an argument is out of range.
    """
    require_whole("num_extra", num_extra, 1)
    labelled_share, extra_share = shares_of_batch(batch_size, extra_fraction)
    labelled = epoch_order(seed, epoch, num_labelled, labelled_share)
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch, 1]))
    needed = len(labelled) * extra_share
    rounds = [_shuffled(generator, num_extra) for _ in range(-(-needed // num_extra))]
    extra = num_labelled + np.concatenate(rounds)[:needed].reshape(-1, extra_share)
    batches = np.concatenate([labelled, extra], axis=1)
    return generator.permuted(batches, axis=1)


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """How many full batches an epoch has, without drawing its order.

    Args:
        num_examples: Size N of the training set; of a mixed one, its labelled examples.
        batch_size: Examples per batch, 1..N; of a mixed set, a batch's share of labelled ones.

    Raises:
        ValueError: If the batch size is out of range.
    """
    if not is_whole(batch_size) or not 1 <= batch_size <= num_examples:
        raise UserError(
            f"batch_size={shown(batch_size)}: accepted are 1 to {num_examples}, the number of "
            "training examples"
        )
    return num_examples // batch_size


def shares_of_batch(batch_size: int, extra_fraction: float) -> tuple[int, int]:
    """How many examples of a mixed batch are labelled, and how many extra.

    Args:
        batch_size: Examples per batch over all devices and processes.
        extra_fraction: Share of a batch that is extra, in (0, 1), rounded to whole examples.

    Raises:
        ValueError: If the fraction is out of range, or leaves none of one kind.
    """
    require_whole("batch_size", batch_size, 1)
    if not is_number(extra_fraction) or not 0 < extra_fraction < 1:
        raise UserError(f"extra_fraction={shown(extra_fraction)}: accepted are 0 to 1")
    extra_share = round(batch_size * extra_fraction)
    labelled_share = batch_size - extra_share
    if not 1 <= labelled_share < batch_size:
        raise UserError(
            f"extra_fraction={extra_fraction:g}: accepted are shares of batch_size={batch_size} "
            f"that leave one example of each kind, and it leaves {labelled_share} labelled and "
            f"{extra_share} extra"
        )
    return labelled_share, extra_share


def _shuffled(generator: np.random.Generator, count: int) -> np.ndarray:
    """The order of `generator.permutation(count)`, in half its memory and less time, int32."""
    order = np.arange(count, dtype=np.int32)
    generator.shuffle(order)
    return order
