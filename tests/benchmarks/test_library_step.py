"""The library's side of the comparison: its work, its start, and the state that it begins with."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import library_step, workload
from benchmarks.workload import Setting
from robustjax.models import flops, layers

SETTING = Setting("fat_trades", "cifar_resnet_8", batch_size=4, steps=2, image_size=8)


@pytest.fixture(scope="module")
def small():
    return workload.create(SETTING)


def test_the_running_statistics_are_those_of_the_batch(small):
    # Then evaluation and training mode see the same network, and the labels are its predictions.
    np.testing.assert_allclose(small.logits, small.training_logits, atol=1e-4)
    assert np.array_equal(small.labels, small.logits.argmax(1))


def test_the_step_does_the_work_that_its_floor_counts(monkeypatch):
    monkeypatch.setitem(layers.CONVOLUTIONS, "auto", jax.lax.conv_general_dilated)
    setting = dataclasses.replace(SETTING, method="trades")
    small = workload.create(setting)
    shape = small.images.shape[1:]
    forward = 4 * flops.forward(setting.model, shape, padded_taps=False)
    # Along an axis of 8 pixels, 22 of the 24 taps of the first layer lie on the image.
    first_layer = 4 * 2 * 22**2 * 3 * 16
    for steps in (0, 2):
        step = library_step.LibraryStep(small, attack_steps=steps)
        step.reset()
        units = setting.work.units(steps)
        # The trace has a gradient at the attack's result, which nothing uses and XLA drops. The
        # outer loss needs no gradient with respect to its images, in neither of its two passes.
        expected = (units + 2) * forward - 2 * first_layer
        assert step.flops(padded_taps=False) == expected


@pytest.mark.slow
def test_the_probe_sees_the_attack(small):
    probed = library_step.probe(small)
    clean = small.images.astype(np.float32) / 255
    # TRADES starts from normal noise of deviation 0.001, which may leave the box.
    noise = probed.starts - clean
    assert 0.0008 < noise.std() < 0.0012
    assert probed.starts.min() < 0 or probed.starts.max() > 1
    assert probed.steps_taken.min() >= 1 and probed.steps_taken.max() <= SETTING.steps
