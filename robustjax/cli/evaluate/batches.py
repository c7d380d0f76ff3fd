"""How many images are attacked at once."""

from collections.abc import Sequence

import jax

from robustjax import parallel


def batch_size_for(total: int, wanted: int, devices: Sequence[jax.Device]) -> int:
    """The size of a batch that some devices share.

    Args:
      total: images that there are.
      wanted: images at once, at most.
      devices: none or one: nothing is shared.

    Raises:
      ValueError: the devices cannot share so many evenly.
    """
    size = min(wanted, total)
    if len(devices) > 1:
        # A short last batch is filled up, so a small set may be too.
        size = -(-size // len(devices)) * len(devices) if size == total else size
        parallel.per_device_batch(size, len(devices))
    return size
