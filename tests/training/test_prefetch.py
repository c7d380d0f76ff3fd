"""What is computed for later epochs while the current one runs."""

import threading

import pytest

from robustjax.training.prefetch import computed_ahead


def test_every_epoch_has_its_value_in_order():
    assert list(computed_ahead(lambda epoch: epoch**2, range(3, 8))) == [
        (3, 9), (4, 16), (5, 25), (6, 36), (7, 49),
    ]  # fmt: skip
    assert list(computed_ahead(str, range(4, 4))) == []


@pytest.mark.parametrize("ahead", [1, 2])
def test_the_next_are_computed_before_they_are_asked_for(ahead):
    done = [threading.Event() for _ in range(5)]

    def compute(epoch):
        done[epoch].set()
        assert threading.current_thread() is not threading.main_thread()

    values = computed_ahead(compute, range(5), ahead)
    assert next(values)[0] == 0
    assert all(event.wait(10) for event in done[: ahead + 1])
    assert not any(event.is_set() for event in done[ahead + 1 :])


def test_several_are_computed_at_once():
    together = threading.Barrier(2, timeout=10)

    def compute(epoch):
        # Passed only by two calls at a time.
        return together.wait() >= 0

    assert all(value for _, value in computed_ahead(compute, range(4), ahead=2))


def test_an_error_comes_when_its_epoch_does_and_leaving_early_is_no_error():
    def compute(epoch):
        if epoch == 1:
            raise OSError("gone")
        return epoch

    values = computed_ahead(compute, range(4))
    assert next(values) == (0, 0)
    with pytest.raises(OSError, match="gone"):
        next(values)
    computed_ahead(compute, range(4)).close()
