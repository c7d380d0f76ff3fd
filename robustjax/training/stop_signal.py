"""A request to stop, as SIGTERM or Ctrl-C makes it; every process of a run hears the same one."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils


class StopSignal:
    """Whether SIGTERM or Ctrl-C came; the processes of a run agree on the step to stop at."""

    def __init__(self) -> None:
        self._came = False

    def receive(self, number: int, _: object) -> None:
        """Handles a signal, as `signal.signal` has it."""
        self._came = True
        if number == signal.SIGINT:
            # A second Ctrl-C does not wait for anything to be saved.
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def requested(self, step: int) -> bool:
        """Whether to stop after this step; asked by every process, after every step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._came


@contextlib.contextmanager
def stop_signal() -> Iterator[StopSignal]:
    """Turns SIGTERM and Ctrl-C into a request to save and stop, if this is the main thread.

    JAX watches for SIGTERM itself where there are several processes.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
        yield stop
        return
    previous = {
        number: signal.signal(number, stop.receive) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
