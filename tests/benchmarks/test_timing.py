"""Alternating rounds and their medians, with a clock that the sides move themselves."""

import pytest

from benchmarks import matrix_rate, neighbours
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


STATISTICS = """\
cpu  60 6 6 600 60 6 6 6 0 0
cpu0 10 1 2 500 50 3 4 5 0 0
cpu1 50 5 4 100 10 3 2 1 0 0
intr 1234 5 6
"""


@pytest.mark.parametrize(("cores", "seconds"), [({0}, 0.25), ({1}, 0.65), ({0, 1}, 0.9)])
def test_the_work_of_cores_leaves_out_their_idle_time(cores, seconds):
    assert neighbours.busy_seconds(STATISTICS, cores, 100) == seconds


def test_neighbours_are_a_share_of_the_cores():
    with neighbours.Neighbours() as seen:
        pass
    assert seen.share is None or 0 <= seen.share <= 1
