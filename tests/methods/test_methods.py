"""The methods: their inner maximisation, their outer loss, the order of their forward passes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustjax
from robustjax import attacks, methods
from robustjax.methods import Batch, Inner, Outer
from robustjax.training import BoundNetwork

BATCH, CLASSES, EPSILON = 6, 3, 0.1


class Normalised(nn.Module):
    """Batch norm with momentum 0.9, then a linear layer."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        batch_statistics = train if batch_statistics is None else batch_statistics
        x = nn.BatchNorm(use_running_average=not batch_statistics, momentum=0.9)(images)
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def network():
    model = Normalised()
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2, 2, 1)))
    return BoundNetwork(model, variables["params"], variables["batch_stats"])


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(0.2, 0.8, (BATCH, 2, 2, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, CLASSES, BATCH), jnp.int32)
    return Batch(images, labels, jnp.arange(BATCH), jnp.ones(BATCH))


def perturb(method, network, batch, steps=3):
    return method.perturb(
        Inner(
            keys=jax.random.split(jax.random.key(1), BATCH),
            positions=jnp.arange(BATCH),
            batch_size=BATCH,
            logits_fn=network.logits_fn(method.attack_batch_norm),
            batch=batch,
            threat=attacks.ThreatModel("linf", EPSILON),
            steps=steps,
            step_size=EPSILON / 2,
            scalars=method.scalars_at(0.0),
            memory=(),
        )
    )


def probabilities(logits):
    exponential = np.exp(np.float64(logits) - np.max(np.float64(logits), axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def cross_entropy(logits, labels):
    return -np.log(probabilities(logits)[np.arange(BATCH), np.asarray(labels)])


def divergence(p_logits, q_logits):
    p, q = probabilities(p_logits), probabilities(q_logits)
    return (p * np.log(p / q)).sum(axis=1)


def train_logits(network, images):
    """Batch norm by the batch's statistics, then the linear layer, in float64."""
    x = np.float64(images)
    x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    dense = network.params["Dense_0"]
    return x.reshape(BATCH, -1) @ np.float64(dense["kernel"]) + np.float64(dense["bias"])


def test_natural_training_perturbs_nothing(network, batch):
    found = perturb(methods.create("natural"), network, batch)
    np.testing.assert_array_equal(found.images, batch.images)
    np.testing.assert_array_equal(found.backward_passes, 0)


@pytest.mark.parametrize("name", ["standard", "trades"])
def test_the_perturbation_is_in_the_ball_and_raises_the_loss_it_ascends(name, network, batch):
    found = perturb(methods.create(name), network, batch)
    assert np.all(np.abs(found.images - batch.images) <= EPSILON * (1 + 1e-6))
    assert np.all((found.images >= 0) & (found.images <= 1))
    np.testing.assert_array_equal(found.backward_passes, 3)
    clean = network.logits_fn()(batch.images)
    adversarial = network.logits_fn()(found.images)
    if name == "standard":
        assert np.all(cross_entropy(adversarial, batch.labels) > cross_entropy(clean, batch.labels))
    else:
        noise = 0.001 * np.random.default_rng(1).normal(size=batch.images.shape)
        nearby = network.logits_fn()(batch.images + jnp.asarray(noise, jnp.float32))
        assert np.all(divergence(clean, adversarial) > 10 * divergence(clean, nearby))


def test_trades_ascends_the_divergence_from_the_clean_prediction_and_not_towards_it():
    clean = jnp.array([[2.0, 0.0, -1.0]])
    other = jnp.array([[0.0, 1.5, 0.5]])
    found = methods.trades.divergence_from_clean(other, clean)
    np.testing.assert_allclose(found, divergence_of_one(clean, other), rtol=1e-6)


def divergence_of_one(p_logits, q_logits):
    p, q = probabilities(p_logits), probabilities(q_logits)
    return (p * np.log(p / q)).sum(axis=1)


def outer(method, network, batch, images):
    perturbation = methods.Perturbation(images, jnp.zeros(BATCH, jnp.int32))
    scalars = method.scalars_at(0.0)
    return method.outer(Outer(jax.random.key(0), network, batch, perturbation, scalars))


def test_outer_losses_are_those_of_the_papers(network, batch):
    adversarial = jnp.clip(batch.images + 0.05 * jnp.sign(batch.images - 0.5), 0, 1)
    clean_logits = train_logits(network, batch.images)
    adversarial_logits = train_logits(network, adversarial)
    natural = cross_entropy(clean_logits, batch.labels)
    robust = cross_entropy(adversarial_logits, batch.labels)
    kl = divergence(clean_logits, adversarial_logits)
    for method, expected in (
        (methods.create("natural"), natural),
        (methods.create("standard"), robust),
        (methods.create("trades"), natural + 6 * kl),
        (methods.create("trades", beta=2.5), natural + 2.5 * kl),
        (methods.create("trades", beta=2.5, clean_passes=2), natural + 2.5 * kl),
    ):
        found = outer(method, network, batch, adversarial)
        np.testing.assert_allclose(found.loss, expected, rtol=2e-5, atol=2e-6)


def test_running_statistics_are_mixed_in_the_order_of_the_passes(network, batch):
    adversarial = jnp.clip(batch.images + 0.3, 0, 1)
    clean_mean, adversarial_mean = float(batch.images.mean()), float(adversarial.mean())
    for options, passes in (
        ({"name": "natural"}, [clean_mean]),
        ({"name": "standard"}, [adversarial_mean]),
        ({"name": "trades"}, [clean_mean, adversarial_mean]),
        (
            {"name": "trades", "clean_passes": 2},
            [clean_mean, adversarial_mean, clean_mean],
        ),
    ):
        expected = 0.0
        for mean in passes:
            expected = 0.9 * expected + 0.1 * mean
        found = outer(methods.create(**options), network, batch, adversarial)
        np.testing.assert_allclose(
            found.statistics["BatchNorm_0"]["mean"], expected, rtol=1e-5, err_msg=str(options)
        )


def test_the_attack_normalises_as_it_was_told(network, batch):
    x = batch.images
    by_batch = network.logits_fn("train")(x)
    np.testing.assert_allclose(by_batch, train_logits(network, x), rtol=1e-4, atol=1e-5)
    dense = network.params["Dense_0"]
    by_running = (x / np.sqrt(1 + 1e-5)).reshape(BATCH, -1) @ dense["kernel"] + dense["bias"]
    np.testing.assert_allclose(network.logits_fn("eval")(x), by_running, rtol=1e-4, atol=1e-5)


def test_no_attack_sees_dropout():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False, batch_statistics=None):
            batch_statistics = train if batch_statistics is None else batch_statistics
            x = nn.BatchNorm(use_running_average=not batch_statistics)(images)
            return nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))

    model = Dropped()
    images = jnp.linspace(0, 1, 8).reshape(2, 2, 2, 1)
    variables = model.init(jax.random.key(0), images)
    network = BoundNetwork(model, variables["params"], variables["batch_stats"])
    for batch_norm in ("eval", "train"):
        assert not np.any(np.isclose(network.logits_fn(batch_norm)(images)[1], 0))
    logits, _ = network.train(images, jax.random.key(1))
    assert np.any(logits == 0)


def test_every_method_has_one_line_and_a_citation():
    for name in methods.names():
        assert methods.create(name).name == name
        assert "\n" not in methods.summary(name) and methods.summary(name)
        entry = robustjax.cite(name)
        assert entry.startswith("@") and entry.endswith("}")
        assert entry.count("{") == entry.count("}")
        for field in ("title", "author", "year"):
            assert f"{field} " in entry


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("trade", {}, "unknown method 'trade'; .*; did you mean 'trades'"),
        ("trades", {"bta": 1}, "no hyper-parameter 'bta'; it has: beta, start"),
        ("natural", {"beta": 1}, "no hyper-parameter 'beta'; it has: loss"),
        ("trades", {"clean_passes": 3}, "clean_passes=3: accepted are 1"),
        ("trades", {"beta": "abc"}, "beta='abc': accepted are a number; steps"),
        ("trades", {"beta": float("nan")}, "beta=nan: accepted are finite numbers"),
        ("trades", {"beta": 1e39}, r"beta=1e\+39: accepted are numbers up to 3.402823466e\+38"),
        ("trades", {"beta": "1,1e39@5"}, r"beta=1e\+39: accepted are numbers up to"),
        ("trades", {"beta": 1j}, "beta=1j: accepted are finite numbers"),
        ("fat", {"tau": 2**40}, "tau=1099511627776: accepted are numbers up to 2147483647"),
        ("trades", {"start": "bogus"}, "start=bogus: accepted are uniform, gaussian"),
        ("standard", {"start": "bogus"}, "start=bogus: accepted are uniform, gaussian"),
        ("standard", {"attack_batch_norm": "batch"}, "attack_batch_norm=batch: accepted are"),
    ],
)
def test_what_a_method_lacks_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        methods.create(name, **options)


def test_numbers_of_numpy_are_numbers():
    method = methods.create("trades", beta=np.float32(6), clean_passes=np.int64(2))
    assert method.scalars_at(0.0) == {"beta": 6.0}
    assert methods.create("fat", tau=np.int64(2)).scalars_at(0.0) == {"tau": 2.0}


def test_hyperparameters_are_listed_with_their_defaults():
    assert methods.hyperparameters("natural") == {"loss": "ce"}
    assert methods.hyperparameters("trades")["beta"] == 6.0
