"""From options to parts: the traced values of a step, the sizes of the data."""

import pytest

from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.training import create_experiment
from robustjax.training.experiment import create_model


def experiment(**changes):
    options = {"model": "digits_cnn", "batch_size": 100, "epsilon": 0.2, "step_size": 0.05}
    return create_experiment(TrainConfig(**{**options, **changes}))


def test_epsilon_and_the_step_size_warm_up_together():
    made = experiment(epsilon_warmup_epochs=2, method="trades", beta=3.0)
    assert made.steps_per_epoch == (1437 - 143) // 100
    steps = made.steps_per_epoch
    for step, part in ((0, 0.0), (steps // 2, (steps // 2) / (2 * steps)), (2 * steps, 1.0)):
        found = made.scalars_at(step)
        expected = {"epsilon": 0.2 * part, "step_size": 0.05 * part, "beta": 3.0}
        assert found == pytest.approx(expected)


def test_without_a_warm_up_they_are_constant():
    assert experiment().scalars_at(0) == {"epsilon": 0.2, "step_size": 0.05}


@pytest.mark.parametrize(("holdout", "size"), [(-1, 143), (0, None), (50, 50)])
def test_the_hold_out(holdout, size):
    made = experiment(holdout=holdout)
    assert len(made.train_set) == 1437 - (size or 0)
    assert (made.holdout_set and len(made.holdout_set)) == size


def test_the_network_averages_over_devices_only_if_asked_to():
    assert experiment(model="resnet_8").model.layers.axis_name == "batch"
    per_device = experiment(model="resnet_8", batch_norm="per_device")
    assert per_device.model.layers.axis_name is None


def test_the_options_of_the_network_reach_it():
    config = TrainConfig(
        model="resnet_18",
        activation="silu",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.2, 0.3),
        stride_padding="same",
    )
    layers = create_model(config, 10).layers
    assert (layers.activation, layers.stride_padding) == ("silu", "same")
    assert (layers.mean, layers.std) == ((0.4, 0.5, 0.6), (0.2, 0.2, 0.3))
    with pytest.raises(UserError, match="model=resnet_18: mean=.*: accepted are both, or neither"):
        create_model(TrainConfig(model="resnet_18", mean=(0.5,)), 10)
