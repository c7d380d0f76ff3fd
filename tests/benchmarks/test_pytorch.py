"""The PyTorch side computes what the library computes: logits, losses, and whole steps."""
# ruff: noqa: E402  (what imports torch comes after the check that it is there)

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import agreement, library_step, peers, workload
from benchmarks.pytorch import losses as torch_losses
from benchmarks.pytorch import models as torch_models
from benchmarks.pytorch import step as torch_step
from benchmarks.pytorch import weights
from benchmarks.workload import CHANNELS, Setting
from robustjax import losses, models
from robustjax.errors import UserError


@pytest.mark.parametrize("name", ["resnet_8", "cifar_resnet_8", "wide_resnet_10_1"])
def test_logits_are_those_of_the_flax_network(name):
    random = np.random.default_rng(0)
    model = models.create(name)
    images = random.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    # Weights and statistics that no initialisation would give; variances are positive.
    variables = jax.tree.map(
        lambda leaf: random.uniform(0.05, 0.3, leaf.shape).astype(np.float32), shapes
    )
    mirror = torch_models.create(name)
    weights.load(mirror, weights.to_torch(variables["params"], variables["batch_stats"]))
    with torch.no_grad():
        theirs = mirror.eval()(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    ours = np.asarray(jax.jit(model.apply)(variables, images))
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_weights_of_another_network_are_refused():
    model = models.create("cifar_resnet_8")
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    arrays = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), variables)
    with pytest.raises(ValueError, match="only in"):
        weights.load(torch_models.create("wide_resnet_10_1"), weights.to_torch(arrays["params"]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "digits_cnn",
            "digits_cnn has no counterpart in PyTorch here; there are small_cnn (28",
        ),
        ("small_cnn", "its counterpart in PyTorch is for images of 1 channel, and these have 3"),
    ],
)
def test_a_network_without_a_counterpart_is_refused_by_name(name, message):
    with pytest.raises(UserError, match=re.escape(f"--models={name}: {message}")):
        peers.require_counterparts(["wide_resnet_34_10", name], "leave it out", CHANNELS)
    peers.require_counterparts(["wide_resnet_34_10"], "leave it out", CHANNELS)
    peers.require_counterparts(["small_cnn", "resnet_18"], "leave it out")


@pytest.mark.parametrize(
    ("benchmark", "otherwise"),
    [
        ("train_step", "--peers= times the library alone"),
        ("early_stopping", "--nopeer times the library alone"),
        ("autoattack", "--nopeer times the library alone"),
    ],
)
def test_so_the_benchmarks_refuse_it_before_they_measure(benchmark, otherwise):
    if benchmark == "autoattack":
        pytest.importorskip("torchattacks")
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks", benchmark, "--models=resnet_8,preact_resnet_18"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1 and found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("error: --models=preact_resnet_18: ")
    assert "resnet_8, resnet_18, resnet_34" in line and otherwise in line


def test_losses_are_the_library_s():
    random = np.random.default_rng(1)
    clean, perturbed = random.normal(size=(2, 6, 10)).astype(np.float32)
    labels = random.integers(0, 10, 6)
    tensors = [torch.tensor(array) for array in (clean, perturbed, labels)]
    for name in ("trades", "mart"):
        theirs = getattr(torch_losses, name)(*tensors)
        ours = getattr(losses, name)(clean, perturbed, labels, beta=torch_losses.BETA)
        assert float(theirs) == pytest.approx(float(ours.mean()), rel=1e-5)
    divergence = losses.kl_divergence(clean, perturbed).sum()
    # The attack leaves out what does not depend on the perturbed images.
    ascended = torch_losses.attack_loss("kl", tensors[1], tensors[0].softmax(1))
    assert float(ascended) == pytest.approx(float(divergence), rel=1e-5)


def sides(method, form):
    setting = Setting(method, "cifar_resnet_8", batch_size=4, steps=2, image_size=8)
    small = workload.create(setting)
    peer = torch_step.TorchStep(
        setting,
        small.experiment.config,
        weights.to_torch(small.state.params, small.state.statistics),
        small.images,
        small.labels,
        form=form,
    )
    return small, peer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "form"),
    [
        ("standard", "eager"),
        ("trades", "eager"),
        ("mart", "eager"),
        ("fat_trades", "eager"),
        ("fat_trades", "compacted"),
    ],
)
def test_a_step_is_the_library_s(method, form):
    small, peer = sides(method, form)
    library = library_step.LibraryStep(small)
    reference = agreement.reference(small, library, library_step.probe(small))
    agreed = agreement.compare(reference, peer)
    # On a network so small rounding turns no pixel, and a weight decay left out would show.
    assert agreed.logits < 1e-5 and agreed.loss < 1e-5 and agreed.update < 1e-4
    agreed.require("float32")


@pytest.mark.slow
def test_steps_carry_momentum_and_reset_forgets_it():
    small, peer = sides("standard", "eager")
    probed = library_step.probe(small)
    library = library_step.LibraryStep(small)
    library.reset()
    library.run()
    # The same random start once more.
    library.reset(library.host_state().replace(step=np.zeros((), np.int32)))
    loss = library.run()
    start = torch.tensor(probed.starts)
    # PyTorch keeps the unbiased variance of the batch, 16/15 of Flax's in the last layers here.
    assert peer.run(2, start=start) == pytest.approx(loss, rel=0.01)
    before = weights.to_torch(small.state.params)
    after, theirs = weights.to_torch(library.host_state().params), peer.weights()
    moved = torch.cat([(after[name] - before[name]).flatten() for name in after])
    missed = torch.cat([(after[name] - theirs[name]).flatten() for name in after])
    # Without momentum the second step would be about half as long.
    assert missed.norm() < 0.1 * moved.norm()
    peer.reset()
    first = peer.run(start=start)
    peer.reset()
    assert peer.run(start=start) == pytest.approx(first, rel=1e-6)


def test_what_differs_is_refused():
    good = agreement.Agreement(logits=1e-6, update=0.01, library_loss=2.0, peer_loss=2.001)
    good.require("float32")
    for change in ({"logits": 0.1}, {"update": 0.9}, {"peer_loss": 2.2}, {"peer_loss": np.nan}):
        with pytest.raises(agreement.Disagreement, match="differs from the library's"):
            dataclasses.replace(good, **change).require("float32")
