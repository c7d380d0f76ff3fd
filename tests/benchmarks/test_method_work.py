"""How much work a training step is: the arithmetic of the papers' methods, and the step itself."""

import pytest

from benchmarks.method_work import METHODS


@pytest.mark.parametrize(
    ("method", "units"), [("standard", 23), ("trades", 27), ("mart", 26), ("fat_trades", 27)]
)
def test_units_of_pgd_10(method, units):
    assert METHODS[method].units(10) == units


def test_an_early_stop_saves_the_steps_that_are_not_taken():
    work = METHODS["fat_trades"]
    # One clean pass, two outer passes; of four examples one takes all steps, one is wrong from the
    # start, and two stop after 4 steps, at the point that their fifth forward pass looks at.
    attack = (2 * 10 + 1 + 2 * (2 * 4 + 1)) / 4
    assert work.needed_units(10, [10, 0, 4, 4]) == 1 + 6 + attack
    assert work.needed_units(10, [10] * 4) == work.units(10)
    # The other methods never stop.
    assert METHODS["trades"].needed_units(10, [10, 0, 4, 4]) == METHODS["trades"].units(10)
