"""Every way of repeating the step gives the same attack: traced, outermost, host-driven."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, platforms
from robustjax.attacks import ThreatModel, stopping
from robustjax.attacks.engine import cpu
from robustjax.attacks.engine import run as engine

WEIGHTS = jax.random.normal(jax.random.key(1), (12, 4))
IMAGES = jax.random.uniform(jax.random.key(2), (8, 2, 2, 3))
LABELS = jnp.argmax(IMAGES.reshape(8, -1) @ WEIGHTS, axis=-1)
SETTINGS = {
    "friendly": {"stop": stopping.misclassified(1), "restarts": 2},
    "reverting": {"stop": stopping.loss_above(jnp.linspace(0.8, 1.3, 8)), "start": "sign"},
    "any": {"success": "any", "budget": jnp.arange(8) % 4, "start": "gaussian"},
}


def network(weights, images):
    return jnp.tanh(images.reshape(len(images), -1)) @ weights


def attack(weights, images, labels, setting, epsilon=0.15):
    return attacks.pgd(
        jax.random.key(7),
        lambda batch: network(weights, batch),
        images,
        labels,
        ThreatModel("linf", epsilon),
        steps=3,
        step_size=0.05,
        **SETTINGS[setting],
    )


def assert_same(result, expected):
    np.testing.assert_allclose(result.images, expected.images, atol=1e-6)
    np.testing.assert_array_equal(result.success, expected.success)
    np.testing.assert_array_equal(result.backward_passes, expected.backward_passes)


def host_drives(monkeypatch):
    """A list that grows by each attack that the host drives."""
    driven = []

    def drive(*arguments, drive=cpu.drive):
        driven.append(None)
        return drive(*arguments)

    monkeypatch.setattr(cpu, "drive", drive)
    return driven


def make_host_drive(monkeypatch):
    """Has the host drive all attacks outside of jit."""
    monkeypatch.setattr(platforms, "of_process", lambda: "cpu")
    monkeypatch.setattr(cpu, "must_be_driven", lambda *_: True)


@pytest.mark.parametrize("setting", SETTINGS)
def test_all_ways_agree(setting, monkeypatch):
    whole = attack(WEIGHTS, IMAGES, LABELS, setting)
    assert len(np.unique(whole.backward_passes)) > 1
    traced = jax.jit(lambda w, x, y: attack(w, x, y, setting))(WEIGHTS, IMAGES, LABELS)
    assert_same(traced, whole)
    driven = host_drives(monkeypatch)
    make_host_drive(monkeypatch)
    assert_same(attack(WEIGHTS, IMAGES, LABELS, setting), whole)
    assert driven


def test_captured_tracers_are_seen():
    both = jnp.stack([WEIGHTS, -WEIGHTS])
    results = jax.vmap(lambda w: attack(w, IMAGES, LABELS, "any"))(both)
    for index in range(2):
        result = jax.tree.map(lambda leaf, index=index: leaf[index], results)
        assert_same(result, attack(both[index], IMAGES, LABELS, "any"))


def test_runs_under_jit_on_constants_alone():
    traced = jax.jit(lambda: attack(WEIGHTS, IMAGES, LABELS, "any"))()
    assert_same(traced, attack(WEIGHTS, IMAGES, LABELS, "any"))
    seen = []
    jax.jit(lambda: seen.append(engine._tracing(())))()
    assert seen == [True] and not engine._tracing(())


def test_epsilon_may_be_mapped_over():
    epsilons = jnp.array([0.05, 0.15])
    map_over = jax.vmap(lambda e: attack(WEIGHTS, IMAGES, LABELS, "reverting", e))
    results = jax.jit(map_over)(epsilons)
    for index in range(2):
        result = jax.tree.map(lambda leaf, index=index: leaf[index], results)
        assert_same(result, attack(WEIGHTS, IMAGES, LABELS, "reverting", epsilons[index]))


def test_runs_on_several_devices():
    devices = jax.local_devices()[:2]
    shard = lambda array: array.reshape(len(devices), -1, *array.shape[1:])  # noqa: E731
    keys = jax.random.split(jax.random.key(3), 8)

    def run(keys, images, labels):
        return attacks.pgd(
            keys,
            lambda batch: network(WEIGHTS, batch),
            images,
            labels,
            ThreatModel(epsilon=0.15),
            steps=4,
            step_size=0.04,
            stop=stopping.misclassified(0),
        )

    mapped = jax.pmap(run, axis_name="batch", devices=devices)(
        shard(keys), shard(IMAGES), shard(LABELS)
    )
    gathered = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(8, *leaf.shape[2:]), mapped)
    assert_same(gathered, run(keys, IMAGES, LABELS))


@pytest.mark.parametrize("by_the_host", [False, True])
def test_ends_when_no_example_is_active(by_the_host, monkeypatch):
    if by_the_host:
        make_host_drive(monkeypatch)
    calls = []

    def count_and_answer(images):
        jax.debug.callback(lambda: calls.append(None))
        return network(WEIGHTS, images)

    # All are wrong at the start already: one look, and one forward pass for the result.
    for stop, expected in ((stopping.misclassified(0), 2), (stopping.misclassified(2), 4)):
        calls.clear()
        result = attacks.pgd(
            jax.random.key(0),
            count_and_answer,
            IMAGES,
            (LABELS + 1) % 4,
            ThreatModel(epsilon=0.01),
            steps=9,
            step_size=0.01,
            start="clean",
            stop=stop,
        )
        jax.block_until_ready(result)
        jax.effects_barrier()
        assert len(calls) == expected


def test_success_costs_nothing_under_jit_if_unused():
    def flops(select):
        run = jax.jit(lambda x: select(attack(WEIGHTS, x, LABELS, "friendly_once")))
        return run.lower(IMAGES).compile().as_text().count(" dot(")

    SETTINGS["friendly_once"] = {"stop": stopping.misclassified(0)}
    try:
        with_success = flops(lambda result: (result.images, result.success))
        without = flops(lambda result: result.images)
    finally:
        del SETTINGS["friendly_once"]
    # The loop's body once: forward and backward.
    assert (without, with_success) == (2, 2 + 1)


def convolutional(images):
    kernel = jnp.ones((3, 3, 3, 4))
    numbers = ("NHWC", "HWIO", "NHWC")
    features = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )
    return jax.nn.relu(features).mean((1, 2))


@pytest.mark.parametrize(
    ("model", "platform", "drives"),
    [("convolutional", "cpu", 1), ("convolutional", "gpu", 0), ("linear", "cpu", 0)],
)
def test_the_host_drives_what_is_slow_in_a_loop(model, platform, drives, monkeypatch):
    driven = host_drives(monkeypatch)
    monkeypatch.setattr(platforms, "of_process", lambda: platform)
    logits_fn = convolutional if model == "convolutional" else lambda x: network(WEIGHTS, x)
    attacks.pgd(jax.random.key(0), logits_fn, IMAGES, LABELS, ThreatModel(epsilon=0.1), steps=2)
    assert len(driven) == drives


@pytest.mark.parametrize(
    ("model", "platform", "steps", "restarts", "loops"),
    [
        ("convolutional", "cpu", 3, 1, 0),
        ("convolutional", "cpu", 40, 1, 0),
        ("convolutional", "cpu", 41, 1, 1),
        ("convolutional", "cpu", 3, 2, 0),
        ("convolutional", "cpu", 21, 2, 2),
        ("convolutional", "cuda", 3, 2, 2),
        ("linear", "cpu", 3, 1, 1),
        ("linear", "cpu", 3, 2, 2),
    ],
)
def test_only_short_loops_over_convolutions_are_unrolled(model, platform, steps, restarts, loops):
    def run(images):
        return attacks.pgd(
            jax.random.key(0),
            # Jitted, so that the convolution lies in an inner program.
            jax.jit(convolutional if model == "convolutional" else lambda x: network(WEIGHTS, x)),
            images,
            LABELS,
            ThreatModel(epsilon=0.1),
            steps=steps,
            restarts=restarts,
            start="gaussian",
        ).images

    found = scans(jax.make_jaxpr(run)(IMAGES), platform)
    assert sum(unroll < length for length, unroll in found) == loops


def scans(program, platform):
    """Length and unrolling of every scan in a program, where it is compiled for a platform."""
    if isinstance(program, tuple | list):
        return [found for entry in program for found in scans(entry, platform)]
    if not hasattr(program, "eqns"):
        return []
    found = []
    for equation in program.eqns:
        params = equation.params
        if equation.primitive.name == "scan":
            found.append((params["length"], params["unroll"]))
        if params.get("branches_platforms"):
            names = [names or (platform,) for names in params["branches_platforms"]]
            number = next(i for i, those in enumerate(names) if platform in those)
            found += scans(params["branches"][number], platform)
        else:
            found += [entry for value in params.values() for entry in scans(value, platform)]
    return found


def test_the_body_is_traced_once_to_be_looked_into():
    traces = []

    def model(images):
        traces.append(None)
        return network(WEIGHTS, images)

    def run(images):
        threat = ThreatModel(epsilon=0.1)
        return attacks.pgd(jax.random.key(0), model, images, LABELS, threat, steps=5).images

    jax.jit(run).lower(IMAGES)
    assert len(traces) == 2  # the step, and the result
