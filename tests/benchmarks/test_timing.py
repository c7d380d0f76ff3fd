"""Alternating rounds and their medians, with a clock that the sides move themselves."""

import pytest

from benchmarks import matrix_rate
from benchmarks.progress import Progress
from benchmarks.timing import Side, Spread, alternate, paired_ratio


class Clock:
    """Seconds that pass only when something says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def side(self, durations, log=None, name=""):
        durations = iter(durations)

        def run():
            self.now += next(durations)
            if log is not None:
                log.append(name)

        return Side(run, prepare=lambda: setattr(self, "now", self.now + 1000))


def test_rounds_alternate_and_neither_warmup_nor_preparation_counts():
    clock, order, ticks = Clock(), [], []
    sides = {
        "ours": clock.side([50, 1, 2, 3], order, "ours"),
        "theirs": clock.side([70, 2, 4, 9], order, "theirs"),
    }
    seconds = alternate(sides, 3, clock=clock, tick=lambda: ticks.append(1))
    assert seconds == {"ours": [1, 2, 3], "theirs": [2, 4, 9]}
    assert len(ticks) == 8
    # Each round begins with the other side.
    assert order == ["theirs", "ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_a_ratio_is_taken_within_each_round():
    # A machine that is busy in the second round slows both sides and leaves the ratio alone.
    ratio = paired_ratio([1, 10, 1.2], [2, 20, 2])
    assert ratio.median == pytest.approx(0.5)
    assert ratio.upper_quartile == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3], (3, 3, 3)), ([5, 1, 2, 3, 4], (3, 2, 4)), ([1, 2], (1.5, 1.25, 1.75))],
)
def test_spread(values, expected):
    assert Spread.of(values) == Spread(*expected)
    assert Spread.of(values).times(2) == Spread(*(2 * value for value in expected))


def test_the_rate_is_that_of_the_fastest_product():
    clock = Clock()
    product = clock.side([9, 4, 2, 4])
    rate = matrix_rate.best_rate(product.run, 10, repeats=3, clock=clock)
    assert rate == 2 * 10**3 / 2


def test_the_time_left_is_of_preparations_and_of_runs(capsys):
    clock = Clock()
    progress = Progress(2, 6, None, clock=clock)
    with progress.preparing("compiling"):
        clock.now += 40
    for _ in range(2):
        clock.now += 3
        progress.tick()
    assert progress.seconds_left() == 40 + 4 * 3
    progress.skip(3)
    assert progress.seconds_left() == 40 + 1 * 3
