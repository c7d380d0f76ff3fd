"""A batch and a network with batch norm, so small that NumPy follows a method in float64."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, methods
from robustjax.methods import Batch, Inner, Outer
from robustjax.training import BoundNetwork

CLASSES, SHAPE = 3, (2, 2, 1)


class Normalised(nn.Module):
    """Batch norm over everything but the channel, then a linear layer."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        batch_statistics = train if batch_statistics is None else batch_statistics
        x = nn.BatchNorm(use_running_average=not batch_statistics, momentum=0.9)(images)
        return nn.Dense(CLASSES)(x.reshape(len(x), -1))


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def cross_entropy(logits, labels):
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def boosted_cross_entropy(logits, labels):
    p = softmax(logits)
    rows = np.arange(len(labels))
    wrong = p.copy()
    wrong[rows, labels] = 0
    return -np.log(p[rows, labels]) - np.log(1 - wrong.max(axis=1))


def divergence(p_logits, q_logits):
    p, q = softmax(p_logits), softmax(q_logits)
    return (p * np.log(p / q)).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class Problem:
    """The network and a batch, with what a method makes of them and what NumPy does."""

    network: BoundNetwork
    batch: Batch
    epsilon: float = 0.1
    step_size: float = 0.03
    steps: int = 4

    def with_labels(self, labels) -> "Problem":
        batch = self.batch._replace(labels=jnp.asarray(labels, jnp.int32))
        return dataclasses.replace(self, batch=batch)

    @property
    def clean(self) -> np.ndarray:
        return np.float64(self.batch.images)

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.batch.labels)

    def logits(self, images: np.ndarray, batch_norm: str) -> np.ndarray:
        """By the running statistics ("eval") or those of these images ("train"), in float64."""
        x, dense = np.float64(images), self.network.params["Dense_0"]
        if batch_norm == "train":
            mean, variance = x.mean(), x.var()
        else:
            statistics = self.network.statistics["BatchNorm_0"]
            mean, variance = np.float64(statistics["mean"]), np.float64(statistics["var"])
        x = (x - mean) / np.sqrt(variance + 1e-5)
        return x.reshape(len(x), -1) @ np.float64(dense["kernel"]) + np.float64(dense["bias"])

    def inner(self, method, epoch=0.0, seed=1, **changes) -> Inner:
        inner = Inner(
            keys=jax.random.split(jax.random.key(seed), len(self.labels)),
            positions=jnp.arange(len(self.labels)),
            batch_size=len(self.labels),
            logits_fn=self.network.logits_fn(method.attack_batch_norm),
            batch=self.batch,
            threat=attacks.ThreatModel("linf", self.epsilon),
            steps=self.steps,
            step_size=jnp.float32(self.step_size),
            scalars=self.scalars(method, epoch),
        )
        return inner._replace(**changes)

    def perturb(self, method, **changes) -> methods.Perturbation:
        return method.perturb(self.inner(method, **changes))

    def start(self, method, **changes) -> np.ndarray:
        """Where the attack begins: what it returns if it may take no step."""
        return np.asarray(self.perturb(method, budget=jnp.int32(0), **changes).images)

    def ascended(self, start: np.ndarray, objective) -> np.ndarray:
        """Projected sign ascent on a sum over the batch, by differences in float64."""
        x, nudge = np.float64(start), 1e-5
        for _ in range(self.steps):
            slope = np.zeros_like(x)
            for place in np.ndindex(x.shape):
                moved = [x.copy(), x.copy()]
                moved[0][place] += nudge
                moved[1][place] -= nudge
                slope[place] = objective(moved[0]) - objective(moved[1])
            assert np.abs(slope).min() > 1e-10
            x = x + self.step_size * np.sign(slope)
            x = np.clip(np.clip(x, self.clean - self.epsilon, self.clean + self.epsilon), 0, 1)
        return x

    def scalars(self, method, epoch=0.0) -> dict[str, Any]:
        return {name: jnp.float32(value) for name, value in method.scalars_at(epoch).items()}

    def outer(self, method, perturbation, epoch=0.0, network=None) -> methods.Objective:
        network = self.network if network is None else network
        scalars = self.scalars(method, epoch)
        return method.outer(Outer(jax.random.key(0), network, self.batch, perturbation, scalars))

    def statistics_after(self, *passes: np.ndarray) -> float:
        """The running mean after training-mode passes of these images, in this order."""
        mean = float(self.network.statistics["BatchNorm_0"]["mean"][0])
        for images in passes:
            mean = 0.9 * mean + 0.1 * np.float64(images).mean()
        return mean

    def loss_and_gradient(self, method):
        """Images, mean loss and its gradient by the weights, the whole method in one."""
        perturbation = self.perturb(method)

        def mean_loss(params):
            network = dataclasses.replace(self.network, params=params)
            return jnp.mean(self.outer(method, perturbation, network=network).loss)

        return perturbation.images, *jax.value_and_grad(mean_loss)(self.network.params)


@pytest.fixture(scope="package")
def problem() -> Problem:
    rng = np.random.default_rng(8)
    kernel = jnp.asarray(rng.normal(size=(int(np.prod(SHAPE)), CLASSES)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=CLASSES), jnp.float32)
    running = {"mean": jnp.array([0.4]), "var": jnp.array([0.05])}
    params = {
        "BatchNorm_0": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "Dense_0": {"kernel": kernel, "bias": bias},
    }
    images = jnp.asarray(rng.uniform(0, 1, (6, *SHAPE)), jnp.float32)
    network = BoundNetwork(Normalised(), params, {"BatchNorm_0": running})
    labels = jnp.asarray([0, 1, 2, 0, 1, 2], jnp.int32)
    return Problem(network, Batch(images, labels, jnp.arange(6), jnp.ones(6)))


@pytest.fixture(scope="package")
def formulas():
    """The papers' terms in float64 NumPy, from probabilities."""

    class Formulas:
        softmax = staticmethod(softmax)
        cross_entropy = staticmethod(cross_entropy)
        boosted_cross_entropy = staticmethod(boosted_cross_entropy)
        divergence = staticmethod(divergence)

    return Formulas
