"""What is right passes, and of what is wrong the first broken rule is said in one sentence."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, losses, methods, testing
from robustjax.attacks import naming, registry

STANDARD = methods.create("standard")


@pytest.mark.parametrize("name", ["trades"])
def test_methods_of_the_papers_keep_the_rules(name):
    testing.check_method(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_every_method_keeps_the_rules(name):
    own = {"mma": 1.05 * methods.hyperparameters("mma")["d_max"]}
    testing.check_method(name, radius=own.get(name))


def test_a_radius_of_its_own_is_said():
    with pytest.raises(testing.BrokenRule, match="with epsilon=0 its images are not"):
        testing.check_method("mma")


@pytest.mark.parametrize("attack", [attacks.PGD(steps=2), "deepfool"])
def test_attacks_of_the_papers_keep_the_rules(attack):
    testing.check_attack(attack)


def signs(key, logits_fn, images, labels, threat):
    """A step along a corner of the cube, right in the linf ball alone."""
    return jnp.clip(images - threat.epsilon * jnp.sign(images - 0.5), 0, 1)


def test_an_attack_is_tried_in_the_balls_that_it_is_registered_for(monkeypatch):
    with pytest.raises(testing.BrokenRule, match="outside of the l2 ball.*says so: norms="):
        testing.check_attack(signs)
    with pytest.raises(testing.BrokenRule, match="outside of the l1 ball"):
        testing.check_attack(signs, norms=("linf", "l1"))
    monkeypatch.setattr(registry, "ENTRIES", dict(registry.ENTRIES))
    monkeypatch.setattr(naming, "ENTRIES", registry.ENTRIES)
    attacks.register("signs", signs, norms=("linf",))
    testing.check_attack(signs)
    testing.check_attack("signs")
    testing.check_attack("cw-2")


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.trades, losses.nap])
def test_losses_of_the_papers_keep_the_rules(loss):
    testing.check_loss(loss)


@pytest.mark.parametrize("name", ["digits_cnn", "cifar_resnet_8"])
def test_networks_of_the_papers_keep_the_rules(name):
    testing.check_model(name, image_shape=(8, 8, 1))


def method(perturb=STANDARD.perturb, outer=STANDARD.outer, **options):
    return methods.Method("mine", perturb, outer, **options)


def changed(**parts):
    """Standard training whose perturbation has other parts, functions of the problem and of it."""

    def perturb(inner):
        found = STANDARD.perturb(inner)
        return found._replace(**{name: part(inner, found) for name, part in parts.items()})

    return method(perturb)


def with_loss(loss):
    """Standard training with another outer loss of (logits, labels)."""

    def outer(problem):
        logits, network = problem.network.train(problem.perturbation.images, problem.key)
        return methods.Objective(loss(logits, problem.batch.labels), network.statistics)

    return method(outer=outer)


def forgetful(problem):
    """Two passes, of which the second does not go on from the first."""
    logits, network = problem.network.train(problem.batch.images, problem.key)
    again, _ = network.train(problem.perturbation.images, problem.key)
    return methods.Objective(
        losses.cross_entropy(again + 0 * logits, problem.batch.labels), network.statistics
    )


def centred(logits, labels):
    return losses.cross_entropy(logits - 3 * logits.mean(0), labels)


METHODS = {
    "no method": (lambda: 3, "it gives int; accepted is methods.Method"),
    "a needed argument": (lambda weight: STANDARD, "every hyper-parameter needs a default"),
    "no perturbation": (method(lambda inner: inner.pgd()), "perturb gives AttackResult; accepted"),
    "too far": (changed(images=lambda i, p: jnp.clip(p.images + 0.3, 0, 1)), "its images are 0.4"),
    "outside": (changed(images=lambda i, p: p.images + 2), r"its images lie in .*, not \[0, 1\]"),
    "whole passes": (
        changed(backward_passes=lambda i, p: jnp.int32(3)), r"its backward_passes is int32\[\]"
    ),
    "another memory": (changed(memory=lambda i, p: jnp.zeros(3)), "the memory that it gives back"),
    "reduced": (with_loss(lambda z, y: losses.cross_entropy(z, y).mean()), r"is float32\[\]; acce"),
    "constant": (with_loss(lambda z, y: jnp.ones(len(y))), "the gradient of its loss .* is 0"),
    "no objective": (method(outer=lambda outer: 0.0), "outer gives float; accepted is methods.Ob"),
    "forgetful": (method(outer=forgetful), "not those that the network's last forward pass left"),
    "coupled": (with_loss(centred), "says couples_rows=True"),
    "needs a class": (
        with_loss(lambda z, y: jnp.logaddexp(0, -z[jnp.arange(len(y)), y])), "soft_labels=False"
    ),
    "overflow": (
        with_loss(lambda z, y: losses.cross_entropy(z, y) + jnp.exp(z).sum(-1)), "at logits of si"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", METHODS)
def test_a_broken_method(case):
    broken, said = METHODS[case]
    with pytest.raises(testing.BrokenRule, match=said):
        testing.check_method(broken)


@dataclasses.dataclass(frozen=True)
class Mine:
    """PGD with one thing wrong."""

    wrong: str

    def __call__(self, key, logits_fn, images, labels, threat):
        if self.wrong == "keys" and key.ndim:
            raise ValueError("one key, please")
        found = attacks.PGD(steps=2)(key, logits_fn, images, labels, threat)
        if self.wrong == "boasting":
            return dataclasses.replace(found, success=jnp.ones(len(images), bool))
        if self.wrong == "company":
            mean = jnp.clip(found.images - found.images.mean(0) * 1e-2, 0, 1)
            moved = threat.project(mean, images)
            wrong = jnp.argmax(logits_fn(moved), -1) != labels
            return dataclasses.replace(found, images=moved, success=wrong)
        return found


Loose = dataclasses.make_dataclass("Loose", [], namespace={"__call__": lambda *arguments: None})

DRAWS = np.random.default_rng(0)

ATTACKS = {
    "too far": (lambda key, f, x, y, threat: jnp.clip(x + 0.5, 0, 1), "images lie outside of the"),
    "radius 0": (
        lambda key, f, x, y, threat: jnp.clip(x + jnp.minimum(threat.epsilon + 1e-3, 0.1), 0, 1),
        "of radius 0",
    ),
    "shape": (lambda key, f, x, y, threat: x[0], r"=float32\[2, 2, 1\]: accepted are an Att"),
    "random": (
        lambda key, f, x, y, threat: threat.project(x + DRAWS.uniform(size=x.shape), x),
        "the same key gives other images",
    ),
    "boasting": (Mine("boasting"), "its success is not what the network says"),
    "keys": (Mine("keys"), "does not take one key per example.*one key, please"),
    "company": (Mine("company"), "attacked otherwise in other company"),
    "a class": (Mine, "it is a class; check a value of it"),
    "not frozen": (Loose(), "its dataclass is not frozen"),
}


@pytest.mark.parametrize("case", ATTACKS)
def test_a_broken_attack(case):
    broken, said = ATTACKS[case]
    with pytest.raises(testing.BrokenRule, match=said):
        testing.check_attack(broken, norms=("linf",))


def concrete(logits, labels):
    return losses.cross_entropy(logits, labels) * float(labels[0] >= 0)


LOSSES = {
    "reduced": (
        lambda z, y: losses.cross_entropy(z, y).mean(),
        r"is float32\[\]; accepted",
    ),
    "coupled": (lambda z, y: losses.cross_entropy(z - z.mean(0), y), "changes with the other exam"),
    "overflow": (lambda z, y: -jnp.log(jax.nn.softmax(z)[jnp.arange(len(y)), y]), "size 10000"),
    "flat": (lambda z, y: (jnp.argmax(z, -1) != y).astype(jnp.float32), "is 0 everywhere"),
    "arguments": (lambda z: z, "it takes 1 arguments"),
    "half": (lambda z, y: losses.cross_entropy(z, y).astype(jnp.float16), "is float16"),
    "concrete": (concrete, "it cannot be compiled by jax.jit"),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_broken_loss(case):
    broken, said = LOSSES[case]
    with pytest.raises(testing.BrokenRule, match=said):
        testing.check_loss(broken)


class Network(nn.Module):
    """A dense layer with one thing wrong."""

    num_classes: int
    wrong: str = ""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        flat = images.reshape(len(images), -1)
        if self.wrong == "batch norm":
            flat = nn.BatchNorm(use_running_average=False)(flat)
        if self.wrong == "still":
            flat = nn.BatchNorm(use_running_average=True)(flat)
        if self.wrong == "blind":
            flat = 0 * flat
        logits = nn.Dense(self.num_classes)(flat)
        return logits.astype(jnp.bfloat16) if self.wrong == "half" else logits


class Modeless(nn.Module):
    """Takes no `train`."""

    num_classes: int

    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1))


MODELS = {
    "modeless": (Modeless, "apply.*train=False.* cannot be called .*train"),
    "classes": (
        lambda num_classes: Network(7),
        r"is float32\[8, 7\]; accepted is",
    ),
    "arguments": (lambda classes: Network(classes), r"build\(num_classes=3\) cannot be called"),
    "batch norm": (
        lambda num_classes: Network(num_classes, "batch norm"),
        "train=False.* cannot be",
    ),
    "still": (
        lambda num_classes: Network(num_classes, "still"),
        "leaves the statistics",
    ),
    "blind": (lambda num_classes: Network(num_classes, "blind"), "by the images is 0"),
    "half": (lambda num_classes: Network(num_classes, "half"), "are bfloat16; accepted: float32"),
    "nothing": (lambda num_classes: num_classes, "int has no init"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_broken_model(case):
    broken, said = MODELS[case]
    with pytest.raises(testing.BrokenRule, match=said):
        testing.check_model(broken)


def test_a_network_of_one_s_own_that_is_right():
    testing.check_model(Network)
    testing.check_model(Network(5), num_classes=5)
