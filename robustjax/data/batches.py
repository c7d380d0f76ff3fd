"""The order in which an epoch visits the training set."""

import numpy as np


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
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"--batch_size must lie in 1..{num_examples}, the number of training examples, "
            f"got {batch_size}"
        )
    if seed < 0 or epoch < 0:
        raise ValueError(f"seed and epoch must be at least 0, got seed={seed}, epoch={epoch}")
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    steps = num_examples // batch_size
    order = generator.permutation(num_examples)[: steps * batch_size]
    return order.astype(np.int32).reshape(steps, batch_size)
