"""How many logits a trained network gives, and whether images fit it, told from its weights."""

import jax
import jax.numpy as jnp
import pytest

from robustjax.config import TrainConfig
from robustjax.training.experiment import create_model
from robustjax.training.fitting import num_classes_of

SHAPES = {"digits_cnn": (8, 8, 1), "sense_mnist_cnn_3": (28, 28, 1), "resnet_8": (32, 32, 3)}


def weights(config, num_classes, shape):
    """As a run has them, without drawing any."""
    model = create_model(config, num_classes)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))


@pytest.mark.parametrize("classes", [2, 3, 10, 64])
@pytest.mark.parametrize("name", SHAPES)
def test_the_number_of_classes_is_read_off_the_last_layer(name, classes):
    # 64 is also the width of other layers.
    config = TrainConfig(model=name)
    variables = weights(config, classes, SHAPES[name])
    assert num_classes_of(config, variables, SHAPES[name]) == classes
    assert num_classes_of(config, variables, SHAPES[name], recorded=classes) == classes


def test_images_of_another_size_are_named():
    config = TrainConfig(model="digits_cnn", dataset="digits")
    variables = weights(config, 10, (8, 8, 1))
    message = "images of 12x12x1 do not fit the network: model=digits_cnn was trained on data"
    with pytest.raises(ValueError, match=message):
        num_classes_of(config, variables, (12, 12, 1))


def test_a_network_that_takes_any_size_takes_those_it_was_trained_on_alone():
    config = TrainConfig(model="resnet_8", dataset="cifar10")
    variables = weights(config, 10, (32, 32, 3))
    assert num_classes_of(config, variables, (32, 32, 3), trained_on=(32, 32, 3)) == 10
    with pytest.raises(ValueError, match="images of 64x64x3 do not fit .* images of 32x32x3"):
        num_classes_of(config, variables, (64, 64, 3), trained_on=(32, 32, 3))


def test_the_weights_of_another_network_are_named():
    variables = weights(TrainConfig(model="resnet_8"), 10, (32, 32, 3))
    with pytest.raises(ValueError, match="the weights are not those of model=resnet_18"):
        num_classes_of(TrainConfig(model="resnet_18"), variables, (32, 32, 3), recorded=10)
