"""How each method finds its adversarial images, step by step in NumPy on a linear model."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, methods, parallel
from robustjax.methods import Batch, Inner, Outer
from robustjax.methods.mma import BISECTIONS, boundary
from robustjax.training import (
    BoundNetwork,
    RawBatch,
    StepSettings,
    create_optimizer,
    create_state,
    make_train_step,
)

BATCH, SHAPE, CLASSES, STEPS = 12, (2, 2, 1), 3, 6
EPSILON, STEP = 0.2, 0.07


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(4)
    kernel = jnp.asarray(2 * rng.normal(size=(4, CLASSES)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=CLASSES), jnp.float32)
    return BoundNetwork(Linear(), {"Dense_0": {"kernel": kernel, "bias": bias}}, {})


@pytest.fixture(scope="module")
def batch(network):
    """Most labels are the network's own, so that attacks have something to do."""
    rng = np.random.default_rng(5)
    images = jnp.asarray(rng.uniform(0.2, 0.8, (BATCH, *SHAPE)), jnp.float32)
    labels = np.argmax(logits_of(network, images), axis=1)
    labels[:3] = (labels[:3] + 1) % CLASSES
    return Batch(images, jnp.asarray(labels, jnp.int32), jnp.arange(BATCH), jnp.ones(BATCH))


def logits_of(network, images):
    dense = network.params["Dense_0"]
    flat = np.float64(images).reshape(len(images), -1)
    return flat @ np.float64(dense["kernel"]) + np.float64(dense["bias"])


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def gradient(network, label, logits):
    """Of the cross-entropy of one image."""
    kernel = np.float64(network.params["Dense_0"]["kernel"])
    return (kernel @ (softmax(logits) - np.eye(CLASSES)[label])).reshape(SHAPE)


def project(image, clean, epsilon=EPSILON):
    return np.clip(np.clip(image, clean - epsilon, clean + epsilon), 0, 1)


def inner_of(method, network, batch, memory=(), epoch=0.0, log=(), **changes):
    inner = Inner(
        keys=jax.random.split(jax.random.key(1), BATCH),
        positions=jnp.arange(BATCH),
        batch_size=BATCH,
        logits_fn=network.logits_fn(method.attack_batch_norm),
        batch=batch,
        threat=attacks.ThreatModel("linf", EPSILON),
        steps=STEPS,
        step_size=jnp.float32(STEP),
        scalars={name: jnp.float32(value) for name, value in method.scalars_at(epoch, log).items()},
        memory=memory,
    )
    return inner._replace(**changes)


def perturb(name, network, batch, memory=(), epoch=0.0, **options):
    method = methods.create(name, **options)
    return method.perturb(inner_of(method, network, batch, memory, epoch))


def test_fat_without_projection_leaves_the_ball_and_its_noise_is_of_size_omega(network, batch):
    # Against the network's own prediction nothing stops the search before K steps.
    far = perturb("fat", network, batch, tau=STEPS, projection=False)
    distance = np.abs(far.images - batch.images).max(axis=(1, 2, 3))
    assert distance.max() > EPSILON + STEP
    # Two steps stay inside of the ball: their noise is seen whole.
    method = methods.create("fat", tau=STEPS, omega=1e-3)
    inner = inner_of(method, network, batch, budget=jnp.int32(2))
    free = methods.create("fat", tau=STEPS).perturb(inner)
    noise = np.asarray(method.perturb(inner).images - free.images)
    assert 0.7e-3 * np.sqrt(2) < noise.std() < 1.3e-3 * np.sqrt(2)
    with pytest.raises(ValueError, match="start='uniform': without a projection"):
        methods.create("fat", projection=False, start="uniform")


def accuracy_by_radius(network, images, labels, radius):
    """Whether the linear model withstands an l-infinity ball, exactly but for the box."""
    kernel = np.float64(network.params["Dense_0"]["kernel"])
    logits = logits_of(network, images)
    right = np.ones(len(images), bool)
    for wrong in range(CLASSES):
        for i, label in enumerate(np.asarray(labels)):
            if wrong != label:
                gap = logits[i, label] - logits[i, wrong]
                reach = radius[i] * np.abs(kernel[:, label] - kernel[:, wrong]).sum()
                right[i] &= gap > reach
    return right


def test_iaat_adapts_each_radius(network, batch):
    radius = np.linspace(0.0, 0.12, BATCH, dtype=np.float32)[::-1].copy()
    growth = 0.02
    memory = {"share": jnp.asarray(radius / EPSILON)}
    found = perturb(
        "iaat", network, batch, memory, growth=growth, smoothing=0.5, fixed_epsilon_epochs=0.0
    )
    clean_right = np.argmax(logits_of(network, batch.images), 1) == np.asarray(batch.labels)
    small = accuracy_by_radius(network, batch.images, batch.labels, radius)
    large = accuracy_by_radius(network, batch.images, batch.labels, radius + growth)
    candidate = np.where(large, radius + growth, np.where(small, radius, radius - growth))
    candidate = np.where(clean_right, np.maximum(candidate, 0), 0)
    expected = 0.5 * candidate + 0.5 * radius
    np.testing.assert_allclose(EPSILON * found.memory["share"], expected, atol=1e-6)
    assert len(set(np.sign(np.round(expected - radius, 6)))) == 3
    distance = np.abs(np.asarray(found.images) - np.asarray(batch.images)).max(axis=(1, 2, 3))
    assert np.all(distance <= expected + 1e-6)
    np.testing.assert_array_equal(found.backward_passes, 3 * STEPS)


def test_iaat_begins_with_one_radius_for_all(network, batch):
    memory = {"share": jnp.zeros(BATCH)}
    found = perturb("iaat", network, batch, memory, epoch=9.9)
    np.testing.assert_allclose(found.memory["share"], 1)
    np.testing.assert_array_equal(found.backward_passes, STEPS)
    skipping = perturb("iaat", network, batch, memory, epoch=9.9, skip_misclassified=True)
    right = np.argmax(logits_of(network, batch.images), 1) == np.asarray(batch.labels)
    np.testing.assert_allclose(skipping.memory["share"], np.where(right, 1, 0))
    after = perturb("iaat", network, batch, memory, epoch=10.0)
    assert np.max(after.memory["share"]) < 1


@pytest.mark.parametrize("rising", [0.0, 0.05])
def test_iaat_remembers_no_radius_of_an_epsilon_that_rises(network, batch, rising):
    """What was attacked in a small ball of the warm-up begins from the whole one after it."""
    method = methods.create("iaat", growth=0.0, smoothing=1.0, start="clean")
    memory = {"share": jnp.zeros(BATCH)}
    inner = inner_of(method, network, batch, memory, epoch=9.9)
    small = inner._replace(threat=dataclasses.replace(inner.threat, epsilon=jnp.float32(rising)))
    found = method.perturb(small)
    moved = np.abs(np.asarray(found.images - batch.images)).max(axis=(1, 2, 3))
    assert moved.max() <= rising + 1e-6
    later = inner_of(method, network, batch, found.memory, epoch=10.0)
    right = np.argmax(logits_of(network, batch.images), 1) == np.asarray(batch.labels)
    # Without growth nothing but a misclassified clean image changes a radius.
    after = method.perturb(later)
    np.testing.assert_allclose(after.memory["share"], np.where(right, 1, 0))


def step_sizes(method, inner):
    """The size of the steps of each search that a method makes."""
    found = []

    class Watched:
        steps_now = inner.steps_now

        def __getattr__(self, name):
            return getattr(inner, name)

        def _replace(self, **changed):
            return watched

        def pgd(self, **options):
            found.append(np.asarray(options["step_size"]))
            return inner.pgd(**options)

    watched = Watched()
    method.perturb(watched)
    return found


@pytest.mark.parametrize("budget", [None, 1, 4])
def test_steps_by_a_radius_are_of_the_k_of_the_moment(network, batch, budget):
    now = STEPS if budget is None else budget
    budget = None if budget is None else jnp.int32(budget)
    method = methods.create("iaat", start="clean", fixed_epsilon_epochs=1)
    memory = {"share": jnp.zeros(BATCH)}
    for step_size in (0.01, 1.0):
        inner = inner_of(method, network, batch, memory, step_size=jnp.float32(step_size))
        *_, last = step_sizes(method, inner._replace(budget=budget))
        np.testing.assert_allclose(last, max(2 * EPSILON / now, step_size), rtol=1e-6)
    method = methods.create("mma", start="clean", min_epsilon=0.01)
    inner = inner_of(method, network, batch, {"margin": jnp.full(BATCH, 0.15)})
    (only,) = step_sizes(method, inner._replace(budget=budget))
    np.testing.assert_allclose(only, 2.5 * 0.15 / now, rtol=1e-6)


def test_bisection_finds_the_boundary():
    places = np.array([0.0, 0.13, 0.5, 0.9, 2.0])
    found = boundary(lambda distance: distance >= places, jnp.ones(5))
    assert np.all(np.abs(found - np.minimum(places, 1)) <= 2.0**-BISECTIONS + 1e-6)
    assert np.all(np.asarray(found) >= np.minimum(places, 1))


def test_bisection_goes_on_from_the_end_of_the_attack():
    # Wrong on two stretches, as no half of the whole way would show.
    def is_wrong_at(distance):
        return ((distance >= 0.1) & (distance < 0.2)) | (distance >= 0.9)

    found = boundary(is_wrong_at, jnp.ones(4), jnp.array([0.15, 0.05, 0.3, 2.0]))
    np.testing.assert_allclose(found, [0.1, 0.9, 0.9, 0.9], atol=2.0**-BISECTIONS)
    assert np.all(is_wrong_at(found))
    unreached = boundary(lambda distance: distance > 1, jnp.ones(1), jnp.array([0.5]))
    np.testing.assert_array_equal(unreached, 1)


def test_mma_finds_the_margin_of_what_is_right(network, batch):
    d_max = 0.3
    memory = {"margin": jnp.zeros(BATCH)}
    found = perturb("mma", network, batch, memory, d_max=d_max, min_epsilon=0.15)
    logits = logits_of(network, batch.images)

    def soft_margin(logits, label):
        others = np.delete(logits, label)
        return np.log(np.exp(others).sum()) - logits[label]

    for i, label in enumerate(np.asarray(batch.labels)):
        clean, image = np.float64(batch.images[i]), np.float64(found.images[i])
        margin = float(found.memory["margin"][i])
        if soft_margin(logits[i], label) >= 0:
            assert margin == 0 and found.notes[i]
            np.testing.assert_array_equal(image, np.float32(clean))
            continue
        distance = np.abs(image - clean).max()
        assert distance <= margin + 1e-6
        at = soft_margin(logits_of(network, image[None])[0], label)
        if margin < 1.05 * d_max - 1e-6:
            # At the boundary, up to the last interval of the bisection.
            slope = 2 * np.abs(np.float64(network.params["Dense_0"]["kernel"])).max() * 4
            assert -1e-5 <= at <= slope * 1.05 * d_max / 2**BISECTIONS
        assert bool(found.notes[i]) == (margin < d_max)
    assert np.any(np.asarray(found.memory["margin"]) > 0)


def test_mma_minimises_the_loss_at_the_margin_and_the_clean_one(network, batch):
    method = methods.create("mma", d_max=0.3, min_epsilon=0.15, clean_weight=0.25)
    memory = {"margin": jnp.zeros(BATCH)}
    perturbation = method.perturb(inner_of(method, network, batch, memory))
    found = method.outer(Outer(jax.random.key(0), network, batch, perturbation, {}))
    labels = np.asarray(batch.labels)

    def entropy(images):
        return -np.log(softmax(logits_of(network, images))[np.arange(BATCH), labels])

    takes_part = np.asarray(perturbation.notes)
    expected = 0.75 * takes_part * entropy(perturbation.images) + 0.25 * entropy(batch.images)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "ratio"),
    [({}, 1.25), ({"step_ratio": 0.5}, 0.5), ({"step_ratio": 0.5, "start": "clean"}, 0.5)],
)
def test_fast_takes_one_step_of_its_share_of_epsilon(options, ratio, network, batch):
    method = methods.create("fast", **options)
    # Without a step the attack returns its start.
    inner = inner_of(method, network, batch)
    starts = np.float64(method.perturb(inner._replace(budget=jnp.int32(0))).images)
    clean = np.float64(batch.images)
    if options.get("start") == "clean":
        np.testing.assert_array_equal(starts, clean)
    else:
        # Uniform in the ball: half of its radius away on average, with a deviation of 0.02.
        assert abs(np.mean(np.abs(starts - clean)) / EPSILON - 0.5) < 0.1
    found = method.perturb(inner)
    np.testing.assert_array_equal(found.backward_passes, 1)
    slopes = [
        gradient(network, label, logits_of(network, start[None])[0])
        for label, start in zip(batch.labels, starts, strict=True)
    ]
    expected = project(starts + ratio * EPSILON * np.sign(slopes), clean)
    np.testing.assert_allclose(found.images, expected, atol=1e-6)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_free_updates_the_weights_and_the_perturbation_by_one_gradient(num_devices):
    rate, batch_size, epsilon = 0.3, 8, 0.05
    method = methods.create("free", replays=2)
    devices = parallel.local_devices(num_devices)
    optimizer = create_optimizer("sgd", lambda step: rate, momentum=0)
    step = parallel.map_over_devices(
        make_train_step(Linear(), method, optimizer, StepSettings("linf", 1, data.Augmentation())),
        devices,
        in_axes=(0, 0, None, None),
    )
    variables = Linear().init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    state = create_state(variables, optimizer, method.init(batch_size, SHAPE), False)
    state = parallel.replicate(state, devices)
    dense = variables["params"]["Dense_0"]
    kernel, bias = np.float64(dense["kernel"]), np.float64(dense["bias"])
    delta = np.zeros((batch_size, 4))
    scalars = {"epsilon": np.float32(epsilon), "step_size": np.float32(epsilon)}
    for number in (0, 0, 1, 1):
        rng = np.random.default_rng(number)
        images = rng.integers(0, 256, (batch_size, *SHAPE), dtype=np.uint8)
        labels = rng.integers(0, CLASSES, batch_size, dtype=np.int32)
        raw = RawBatch(images, labels, np.arange(batch_size, dtype=np.int32)[::-1].copy(),
                       np.ones(batch_size, np.float32))  # fmt: skip
        split = parallel.split_over_devices(raw, num_devices)
        state, _ = step(state, split, scalars, jax.random.key(0))
        x = np.clip(images.reshape(batch_size, -1) / 255 + delta, 0, 1)
        error = (softmax(x @ kernel + bias) - np.eye(CLASSES)[labels]) / batch_size
        slope = error @ kernel.T
        kernel, bias = kernel - rate * x.T @ error, bias - rate * error.sum(axis=0)
        delta = np.clip(delta + epsilon * np.sign(slope), -epsilon, epsilon)
    found = parallel.unreplicate(state)
    np.testing.assert_allclose(found.params["Dense_0"]["kernel"], kernel, atol=1e-5)
    np.testing.assert_allclose(found.memory["delta"].reshape(batch_size, -1), delta, atol=1e-6)


def loss_and_gradient(name, network, batch, **options):
    """Of the whole of a method, by the kernel."""
    method = methods.create(name, **options)
    perturbation = method.perturb(inner_of(method, network, batch))
    scalars = inner_of(method, network, batch).scalars

    def mean_loss(params):
        bound = dataclasses.replace(network, params=params)
        outer = Outer(jax.random.key(0), bound, batch, perturbation, scalars)
        return jnp.mean(method.outer(outer).loss)

    return perturbation.images, *jax.value_and_grad(mean_loss)(network.params)


@pytest.mark.parametrize("name", ["trades", "rst", "uat"])
def test_a_label_that_is_absent_has_no_part_in_anything(name, network, batch):
    absent = np.arange(BATCH) % 2 == 1
    labels = jnp.where(absent, -1, batch.labels)
    images, value, slope = loss_and_gradient(name, network, batch._replace(labels=labels))
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(slope))
    # By hand: cross-entropy of the labelled, divergence of all.
    logits, found = logits_of(network, batch.images), logits_of(network, images)
    p, q = softmax(logits), softmax(found)
    divergence = (p * np.log(p / q)).sum(axis=1)
    scored = found if name == "uat" else logits
    entropy = -np.log(softmax(scored)[np.arange(BATCH), np.asarray(batch.labels)])
    beta = 5.0 if name == "uat" else 6.0
    expected = np.mean(np.where(absent, 0, entropy) + beta * divergence)
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["trades", "rst", "uat", "fat", "lrm", "alp", "standard"])
def test_methods_that_take_soft_labels_take_hard_ones_as_a_special_case(name, network, batch):
    method = methods.create(name)
    assert method.soft_labels
    soft = batch._replace(labels=jax.nn.one_hot(batch.labels, CLASSES))
    single = parallel.local_devices(1)

    def whole(batch):
        return jax.pmap(
            lambda batch: loss_and_gradient(name, network, batch), axis_name="batch", devices=single
        )(jax.tree.map(lambda leaf: leaf[None], batch))

    hard_images, hard_value, _ = whole(batch)
    soft_images, soft_value, _ = whole(soft)
    np.testing.assert_allclose(soft_images, hard_images, atol=1e-6)
    np.testing.assert_allclose(soft_value, hard_value, rtol=1e-5)


def test_the_attack_of_smoothed_labels_may_ascend_the_hard_one(network, batch):
    smoothed = 0.6 * jax.nn.one_hot(batch.labels, CLASSES) + 0.4 / CLASSES
    soft = batch._replace(labels=smoothed)
    by_hard = perturb("standard", network, soft, attack_labels="hard")
    expected = perturb("standard", network, batch)
    np.testing.assert_array_equal(by_hard.images, expected.images)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mart", {"classifier": "kl"}, "classifier=kl: accepted are bce, ce, natural_bce"),
        ("mart", {"proportion": 2}, "proportion=2: accepted are finite numbers, at least 0 and at"),
        ("fat", {"tau": -1}, "tau=-1: accepted are finite numbers, at least 0"),
        ("fat", {"tau": "0,1"}, "tau='0,1': accepted are a number; steps"),
        ("sense", {"c": 1.5}, "c=1.5: accepted are finite numbers, at least 0 and at most 1"),
        ("sense", {"c": "0.5..2@10"}, "c=2.0: accepted are finite numbers"),
        ("free", {"replays": 0}, "replays=0: accepted are whole numbers, 1 to"),
        ("nap", {"margin": "no"}, "margin=no: accepted are True, False"),
    ],
)
def test_what_a_method_does_not_accept_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.create(name, **options)


@pytest.mark.parametrize("treatment", ["unperturbed", "fgsm", "regularised"])
def test_a_subset_is_treated_apart(treatment, network, batch, tmp_path):
    chosen = np.arange(BATCH) % 3 == 0
    path = tmp_path / "subset.npz"
    np.savez(path, chosen=chosen)
    method = methods.create("mart_subset", subset=str(path), treatment=treatment, beta=2.0)
    memory = method.init(BATCH, SHAPE)
    found = method.perturb(inner_of(method, network, batch, memory))
    standard = perturb("standard", network, batch)
    others = {"unperturbed": 0, "fgsm": 1, "regularised": STEPS}[treatment]
    np.testing.assert_array_equal(found.backward_passes, np.where(chosen, others, STEPS))
    np.testing.assert_array_equal(found.images[~chosen], standard.images[~chosen])
    if treatment == "unperturbed":
        np.testing.assert_array_equal(found.images[chosen], batch.images[chosen])
    np.testing.assert_array_equal(found.memory["chosen"], chosen)
    scalars = {"beta": jnp.float32(2.0)}
    loss = method.outer(Outer(jax.random.key(0), network, batch, found, scalars)).loss
    p, q = softmax(logits_of(network, batch.images)), softmax(logits_of(network, found.images))
    expected = -np.log(q[np.arange(BATCH), np.asarray(batch.labels)])
    if treatment == "regularised":
        expected += 2.0 * chosen * (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-6)


def test_a_subset_of_another_training_set_is_refused(tmp_path):
    path = tmp_path / "subset.npz"
    np.savez(path, chosen=np.zeros(5, bool))
    with pytest.raises(ValueError, match=r"subset=.*chosen is bool \[5\]; accepted is bool \[6\]"):
        methods.create("mart_subset", subset=str(path)).init(6, SHAPE)
    np.savez(path, other=np.zeros(5, bool))
    with pytest.raises(ValueError, match="accepted is an .npz file with the array 'chosen'"):
        methods.create("mart_subset", subset=str(path)).init(5, SHAPE)
