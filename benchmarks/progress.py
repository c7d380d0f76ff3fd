"""How far a benchmark is, on stderr: a bar on a terminal, else a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from robustjax.progress import terminal_bar
from robustjax.runs.log import format_seconds


class Progress:
    """Counts what is prepared and what is timed, and says how long the rest will take.

    Args:
      preparations: how often something is compiled.
      runs: how often something is timed, in all.
      stream: where to write; None shows nothing.
      every: seconds between two lines where there is no terminal.
      clock: seconds.
    """

    def __init__(
        self,
        preparations: int,
        runs: int,
        stream: TextIO | None = sys.stderr,
        *,
        every: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._preparations, self._prepared, self._preparing_seconds = preparations, 0, 0.0
        self._runs, self._done, self._running_seconds = runs, 0, 0.0
        self._stream, self._every, self._clock = stream, every, clock
        self._last = self._said = clock()
        self._bar = None
        if stream is not None:
            self._bar = terminal_bar(
                stream,
                total=runs,
                leave=False,
                bar_format="{percentage:3.0f}% {bar} {n_fmt}/{total_fmt} runs [{elapsed}{postfix}]",
            )

    def say(self, text: str) -> None:
        """Prints one line."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        elif self._stream is not None:
            print(text, file=self._stream, flush=True)

    @contextlib.contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """What is done inside is a preparation, not a run."""
        self.say(what)
        started = self._clock()
        yield
        self._last = self._clock()
        self._prepared += 1
        self._preparing_seconds += self._last - started

    def tick(self) -> None:
        """One more run is done."""
        now = self._clock()
        self._running_seconds += now - self._last
        self._last = now
        self._done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(f"ETA {format_seconds(self.seconds_left())}", refresh=False)
            self._bar.update()
        elif now - self._said >= self._every and self._done < self._runs:
            self._said = now
            eta = format_seconds(self.seconds_left())
            self.say(f"  {self._done}/{self._runs} runs  ETA {eta}")

    def skip(self, runs: int) -> None:
        """Some runs will not happen."""
        self._runs -= runs
        if self._bar is not None:
            self._bar.total = self._runs

    def seconds_left(self) -> float:
        """What is left at the mean pace so far, of preparations and of runs."""
        left = 0.0
        if self._prepared:
            left_over = self._preparations - self._prepared
            left += self._preparing_seconds / self._prepared * left_over
        if self._done:
            left += self._running_seconds / self._done * (self._runs - self._done)
        return left

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.close()
