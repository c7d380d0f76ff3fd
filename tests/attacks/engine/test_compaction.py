"""Steps on the active rows alone: the same attack, and no work on those that have stopped."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, platforms
from robustjax.attacks import ThreatModel, stopping
from robustjax.attacks.engine import compaction, cpu
from robustjax.attacks.engine import run as engine

CHUNK = 3
WEIGHTS = jax.random.normal(jax.random.key(1), (12, 4))
IMAGES = jax.random.uniform(jax.random.key(2), (8, 2, 2, 3))
LABELS = jnp.argmax(IMAGES.reshape(8, -1) @ WEIGHTS, axis=-1)
BUDGETS = np.array([0, 5, 1, 5, 2, 0, 4, 5])
SETTINGS = {
    "friendly": {"stop": stopping.misclassified(1), "restarts": 2},
    "reverting": {"stop": stopping.loss_above(jnp.linspace(0.8, 1.3, 8)), "start": "sign"},
    "any, with noise": {"success": "any", "noise": 0.01, "start": "gaussian"},
    "budget": {"budget": BUDGETS, "target": LABELS[::-1]},
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(cpu, "ROWS_OF_A_CHUNK", CHUNK)


def attack(setting, images=IMAGES, seen=None, **options):
    def logits_fn(batch):
        if seen is not None:
            jax.debug.callback(lambda: seen.append(len(batch)))
        return jnp.tanh(batch.reshape(len(batch), -1)) @ WEIGHTS

    return attacks.pgd(
        jax.random.key(7),
        logits_fn,
        images,
        LABELS,
        ThreatModel("linf", 0.15),
        steps=5,
        step_size=0.03,
        **SETTINGS[setting],
        **options,
    )


def assert_same(result, expected):
    np.testing.assert_allclose(result.images, expected.images, atol=1e-6)
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_array_equal(result.backward_passes, expected.backward_passes)


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_finds_what_the_masked_run_finds(setting):
    masked = attack(setting)
    assert len(np.unique(masked.backward_passes)) > 1
    assert_same(attack(setting, independent_rows=True), masked)
    traced = jax.jit(lambda images: attack(setting, images, independent_rows=True))(IMAGES)
    assert_same(traced, masked)


@pytest.mark.parametrize("setting", SETTINGS)
def test_so_it_does_in_the_form_of_an_accelerator(setting, monkeypatch):
    masked = attack(setting)
    monkeypatch.setattr(platforms, "of_process", lambda: "gpu")
    monkeypatch.setattr(platforms, "for_platform", lambda *args, other, **forms: other(*args))
    assert_same(attack(setting, independent_rows=True), masked)
    traced = jax.jit(lambda images: attack(setting, images, independent_rows=True))(IMAGES)
    assert_same(traced, masked)


def test_so_it_does_where_the_host_drives_it(monkeypatch):
    monkeypatch.setattr(platforms, "of_process", lambda: "cpu")
    monkeypatch.setattr(cpu, "must_be_driven", lambda *_: True)
    monkeypatch.setattr(engine, "_traced", None)
    assert_same(attack("budget", independent_rows=True), attack("budget"))


def test_only_chunks_with_active_rows_are_computed():
    seen = []
    run = jax.jit(lambda images: attack("budget", images, seen, independent_rows=True))
    jax.block_until_ready(run(IMAGES))
    jax.effects_barrier()
    active = [(step < BUDGETS).sum() for step in range(5)]
    chunks = sum(-(-count // CHUNK) for count in active)
    # Each chunk is evaluated once, and in the end the whole batch.
    assert sorted(seen) == [CHUNK] * chunks + [8]


def test_a_network_that_is_slow_in_a_loop_is_not_put_into_one():
    kernel = jnp.ones((3, 3, 3, 4)) / 9

    def logits_fn(batch):
        layout = ("NHWC", "HWIO", "NHWC")
        convolved = jax.lax.conv_general_dilated(
            batch, kernel, (1, 1), "SAME", dimension_numbers=layout
        )
        return convolved.mean((1, 2))

    def run(images):
        # Random numbers would be a loop of their own.
        options = {"steps": 2, "budget": BUDGETS % 3, "start": "clean", "independent_rows": True}
        threat = ThreatModel("linf", 0.1)
        return attacks.pgd(jax.random.key(0), logits_fn, images, LABELS, threat, **options).images

    def loops(platform):
        exported = jax.export.export(jax.jit(run), platforms=[platform])(IMAGES)
        return exported.mlir_module().count("stablehlo.while")

    assert loops("cpu") == 0
    # Over the steps, and over the chunks in each.
    assert loops("cuda") == loops("tpu") == 2


def test_rows_beyond_the_batch_stand_for_nobody():
    rows = {"value": jnp.arange(4.0), "shared": jnp.array(2.0), "kept": jnp.arange(4)}
    after = compaction.step_at(
        lambda rows: {**rows, "value": rows["value"] + rows["shared"]}, rows, jnp.array([2, 0, 4])
    )
    np.testing.assert_array_equal(after["value"], [2.0, 1.0, 4.0, 3.0])
    assert after["kept"] is rows["kept"]


def test_no_more_steps_than_asked_for():
    class Rows(dict):
        active = jnp.ones(3, bool)

    jax.tree_util.register_pytree_node(
        Rows, lambda rows: ((rows["value"],), None), lambda _, leaves: Rows(value=leaves[0])
    )
    after = compaction.repeat_on_active(
        lambda rows: Rows(value=rows["value"] + 1), Rows(value=jnp.zeros(3)), 4, 2
    )
    np.testing.assert_array_equal(after["value"], [4.0, 4.0, 4.0])
