"""A program becomes what suits the platform that it is compiled for, whatever traces it.

Everything is lowered for platforms that need not be there, and the StableHLO is read.
"""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, methods, models, parallel, platforms
from robustjax.training.optimizer import create_optimizer
from robustjax.training.step import RawBatch, StepSettings, make_train_step
from robustjax.training.train_state import create_state

ACCELERATORS = ["cuda", "tpu"]
OPERATIONS = ("while", "convolution", "dot_general", "sort")


def operations(traced, platform):
    """How often each operation stands in what a trace becomes on a platform; a loop's body once."""
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return {name: len(re.findall(rf"stablehlo\.{name}\b", text)) for name in OPERATIONS}


@functools.cache
def abstract_network(name, size):
    model = models.create(name)
    images = jax.ShapeDtypeStruct((4, size, size, 3), jnp.float32)
    return model, jax.eval_shape(model.init, jax.random.key(0), images), images


@functools.cache
def traced_attack(name):
    model, variables, images = abstract_network(name, 32)

    def attack(variables, images, labels):
        return attacks.pgd(
            jax.random.key(0),
            lambda batch: model.apply(variables, batch, train=False),
            images,
            labels,
            attacks.ThreatModel(epsilon=8 / 255),
            steps=10,
            # Random numbers are a loop of their own on a CPU.
            start="clean",
        ).images

    labels = jax.ShapeDtypeStruct(images.shape[:1], jnp.int32)
    return jax.jit(attack).trace(variables, images, labels)


@pytest.mark.parametrize("platform", ACCELERATORS)
def test_an_attack_on_an_accelerator_is_one_loop_over_plain_convolutions(platform):
    found = operations(traced_attack("resnet_18"), platform)
    assert found["while"] == 1
    # Forward and backward: 20 convolutions each, and the dense layer.
    assert found["convolution"] == 40 and found["dot_general"] == 2


def test_on_a_cpu_it_holds_the_formulations_of_cpus():
    found = operations(traced_attack("resnet_18"), "cpu")
    assert found["while"] == 1
    assert found["dot_general"] > 20 and found["convolution"] < 10


def test_of_two_forms_the_other_is_gone():
    run = functools.partial(platforms.for_platform, cpu=jnp.sin, other=jnp.cos)
    for platform, kept, gone in (
        ("cpu", "sine", "cosine"),
        ("cuda", "cosine", "sine"),
        ("tpu", "cosine", "sine"),
    ):
        exported = jax.export.export(jax.jit(run), platforms=[platform])(jnp.ones(3))
        text = exported.mlir_module()
        assert f"stablehlo.{kept} " in text and f"stablehlo.{gone} " not in text


def test_tpus_may_have_a_form_of_their_own():
    run = functools.partial(platforms.for_platform, tpu=jnp.sin, other=jnp.cos)
    for platform, kept in (("cpu", "cosine"), ("cuda", "cosine"), ("tpu", "sine")):
        exported = jax.export.export(jax.jit(run), platforms=[platform])(jnp.ones(3))
        found = re.findall(r"stablehlo\.(sine|cosine) ", exported.mlir_module())
        assert found == [kept]


def test_of_two_forms_both_are_differentiated_mapped_and_rematerialised():
    def run(x):
        return platforms.for_platform(x, cpu=jnp.sin, other=jnp.cos)

    x = jnp.linspace(0.0, 1.0, 5)
    right, slope = (
        (jnp.sin, jnp.cos) if jax.default_backend() == "cpu" else (jnp.cos, lambda x: -jnp.sin(x))
    )
    np.testing.assert_allclose(run(x), right(x), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(run)(x), right(x), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(x), right(x), rtol=1e-6)
    for function in (run, jax.jit(run), jax.checkpoint(run), jax.jit(jax.checkpoint(run))):
        gradient = jax.grad(lambda x, function=function: function(x).sum())(x)
        np.testing.assert_allclose(gradient, slope(x), rtol=1e-6)
    devices = jax.local_devices()[:2]
    mapped = jax.pmap(lambda x: jax.lax.psum(run(x), "i"), "i", devices=devices)
    shared = jnp.stack([x] * len(devices))
    np.testing.assert_allclose(mapped(shared)[0], len(devices) * right(x), rtol=1e-6)
    mesh = jax.sharding.Mesh(np.asarray(devices), ("i",))
    spec = jax.sharding.PartitionSpec("i")
    sharded = jax.jit(jax.shard_map(run, mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(sharded(shared), right(shared), rtol=1e-6)


@functools.cache
def traced_step(method, model="cifar_resnet_8", **settings):
    """The train step of one device, on 8 images; nothing is computed."""
    method = methods.create(method)
    network, variables, images = abstract_network(model, 8)
    optimizer = create_optimizer("sgd", lambda step: 0.1)
    options = StepSettings("linf", 10, data.Augmentation(), **settings)
    step = make_train_step(network, method, optimizer, options)

    def init(variables):
        memory = method.init(8, images.shape[1:])
        return create_state(variables, optimizer, memory, with_average=False)

    one_device = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), (parallel.AXIS,))
    everything = jax.sharding.PartitionSpec()
    mapped = jax.shard_map(
        step, mesh=one_device, in_specs=everything, out_specs=everything, check_vma=False
    )
    rows = jax.ShapeDtypeStruct((8,), jnp.int32)
    scalars = {"epsilon": 0.1, "step_size": 0.01, **method.scalars_at(0.0)}
    return jax.jit(mapped).trace(
        jax.eval_shape(init, variables),
        RawBatch(
            jax.ShapeDtypeStruct((8, *images.shape[1:]), jnp.uint8),
            rows,
            rows,
            jax.ShapeDtypeStruct((8,), jnp.float32),
        ),
        {name: jax.ShapeDtypeStruct((), jnp.float32) for name in scalars},
        jax.eval_shape(lambda: jax.random.key(0)),
    )


@pytest.mark.parametrize("platform", ACCELERATORS)
@pytest.mark.parametrize("method", ["standard", "trades", "fat", "sense"])
def test_a_train_step_on_an_accelerator_holds_one_loop(method, platform):
    found = operations(traced_step(method), platform)
    assert found["while"] == 1 and found["sort"] == 0
    # The dense layer: in the attack, in the outer passes, and their gradients.
    assert found["dot_general"] <= 12 < found["convolution"]


@pytest.mark.parametrize("method", ["fat", pytest.param("sense", marks=pytest.mark.slow)])
def test_a_flag_chooses_what_becomes_of_rows_that_have_stopped(method):
    for platform in ("cpu", *ACCELERATORS):
        found = {
            "": operations(traced_step(method), platform),
            "scan": operations(traced_step(method, early_stop="scan"), platform),
            "compact": operations(traced_step(method, early_stop="compact"), platform),
        }
        # Compaction sorts the rows; it loops over chunks in a loop over steps.
        assert [found[choice]["sort"] > 0 for choice in ("scan", "compact")] == [False, True]
        assert found["compact"]["while"] == found["scan"]["while"] + 1
        assert found[""] == found["compact" if platform == "cpu" else "scan"]


def test_parts_of_a_batch_are_a_loop_but_on_a_cpu():
    whole, parts = traced_step("natural"), traced_step("natural", microbatch=4)
    for platform, loops in (("cpu", 0), ("cuda", 2), ("tpu", 2)):
        more = operations(parts, platform)["while"] - operations(whole, platform)["while"]
        assert more == loops
