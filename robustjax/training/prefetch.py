"""What the host computes for later epochs while the devices work on the current one."""

import collections
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def computed_ahead(
    function: Callable[[int], T], epochs: range, ahead: int = 2
) -> Iterator[tuple[int, T]]:
    """Calls a function for every epoch, for the next ones in threads of their own.

    Args:
      function: of the number of an epoch alone, so that it does not matter when it is called.
      epochs: consecutive.
      ahead: for how many epochs beyond the current one, all at once. Two hide a call that takes up
        to twice as long as an epoch.

    Yields:
      Each epoch and its value, in order.
    """
    pool = ThreadPoolExecutor(max_workers=ahead)
    try:
        coming: collections.deque[Future[T]] = collections.deque(
            pool.submit(function, epoch) for epoch in epochs[:ahead]
        )
        for epoch in epochs:
            value = coming.popleft().result()
            if epoch + ahead in epochs:
                coming.append(pool.submit(function, epoch + ahead))
            yield epoch, value
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
