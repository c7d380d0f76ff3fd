"""What holds for every registered method, and which method is which with its special part off."""

import contextlib
import dataclasses
import functools
import inspect
import json
from pathlib import Path
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data, methods, models, parallel
from robustjax.flags import read_flags
from robustjax.methods import Batch, Inner, Outer, registry
from robustjax.training import (
    BoundNetwork,
    RawBatch,
    StepSettings,
    create_experiment,
    create_optimizer,
    create_state,
    make_train_step,
    train,
)

LAUNCH = Path(__file__).resolve().parents[2] / "launch"
BATCH, SHAPE, CLASSES, STEPS, EPSILON = 8, (2, 2, 1), 4, 3, 0.1


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Extra images for the methods that ask for them."""
    path = tmp_path_factory.mktemp("data") / "generated.npz"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    np.savez(path, image=images, label=rng.integers(0, 10, 64))
    return str(path)


@pytest.mark.parametrize("name", methods.names())
def test_it_trains_two_steps_on_digits_from_its_flag_file(name, generated, tmp_path):
    flags = LAUNCH / f"{name}.flags"
    assert flags.exists(), f"launch/{name}.flags: every method has a file of its paper's flags"
    config = read_flags(flags)
    assert config.method == name
    small = dataclasses.replace(
        config,
        dataset="digits",
        train_split="train",
        data_dir="",
        model="digits_cnn",
        # The network of this test has no batch norm, whose statistics "train" would take.
        attack_batch_norm="eval" if "attack_batch_norm" in methods.hyperparameters(name) else "",
        classes=(),
        extra_data=generated if config.extra_data else "",
        augmentation="none",
        precision="float32",
        activation="",
        init_from="",
        batch_size=16,
        train_examples=16 * (1 if methods.create(name).replays > 1 else 2),
        holdout=0,
        epochs=1,
        epsilon_warmup_epochs=0.0,
        warmup_epochs=0.0,
        decay_epochs=(),
        decay_factors=(0.1,),
        steps=2,
        measure_steps=1,
        measure_examples=16,
        devices=1,
        workdir=str(tmp_path / "run"),
    )
    before = create_experiment(small).initial_state()
    result = train(small, stream=None)
    assert result.finished and int(result.state.step) >= 2
    assert np.isfinite(result.rows[-1]["loss"])
    assert result.rows[-1]["mean_backward_passes"] >= 0
    for old, new in zip(
        jax.tree.leaves(before.params), jax.tree.leaves(result.state.params), strict=True
    ):
        assert np.all(np.isfinite(new))
        assert np.any(old != new)


class Linear(nn.Module):
    """A network in the precision of its images."""

    @nn.compact
    def __call__(self, images, *, train=False, batch_statistics=None):
        flat = images.reshape(len(images), -1)
        return nn.Dense(CLASSES, dtype=images.dtype, param_dtype=images.dtype)(flat)


@contextlib.contextmanager
def eager_on_one_device(monkeypatch):
    """Collectives over a single device, outside of any mapping."""
    with monkeypatch.context() as patch:
        patch.setattr(jax.lax, "psum", lambda value, name: value)
        patch.setattr(jax.lax, "pmean", lambda value, name: value)
        patch.setattr(jax.lax, "all_gather", lambda value, name, **_: value)
        patch.setattr(jax.lax, "axis_index", lambda name: 0)
        patch.setattr(jax.lax, "axis_size", lambda name: 1)
        yield patch


class Detached:
    """Stands in for `stop_gradient`: keeps what was detached first and gives it back afterwards."""

    def __init__(self):
        self.kept, self.place = [], None

    def __call__(self, value):
        if self.place is None:
            self.kept.append(value)
            return value
        self.place += 1
        return self.kept[self.place - 1]


@pytest.mark.parametrize("name", methods.names())
def test_the_gradient_of_its_outer_loss_agrees_with_finite_differences(name, monkeypatch):
    method = methods.create(name)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True), eager_on_one_device(monkeypatch) as patch:
        images = jnp.asarray(rng.uniform(0.2, 0.8, (BATCH, *SHAPE)))
        params = {
            "Dense_0": {
                "kernel": jnp.asarray(rng.normal(size=(int(np.prod(SHAPE)), CLASSES))),
                "bias": jnp.asarray(rng.normal(size=CLASSES)),
            }
        }
        scalars = {key: jnp.asarray(value) for key, value in method.scalars_at(3.0).items()}
        rows = method.init(BATCH, SHAPE)
        batch = Batch(
            images, jnp.asarray(rng.integers(0, CLASSES, BATCH)), jnp.arange(BATCH), jnp.ones(BATCH)
        )
        inner = Inner(
            keys=jax.random.split(jax.random.key(1), BATCH),
            positions=jnp.arange(BATCH),
            batch_size=BATCH,
            logits_fn=BoundNetwork(Linear(), params, {}).logits_fn("eval"),
            batch=batch,
            threat=attacks.ThreatModel("linf", EPSILON),
            steps=STEPS,
            step_size=jnp.asarray(EPSILON / 2),
            scalars=scalars,
            memory=rows,
        )
        method = methods.create(name, **evaluating(name))
        perturbation = method.perturb(inner)

        def loss(params):
            network = BoundNetwork(Linear(), params, {})
            outer = Outer(jax.random.key(0), network, batch, perturbation, scalars)
            return jnp.mean(method.outer(outer).loss)

        gradient = jax.grad(loss)(params)
        direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
        slope = sum(
            jnp.vdot(one, other)
            for one, other in zip(
                jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True
            )
        )
        detached = Detached()
        patch.setattr(jax.lax, "stop_gradient", detached)
        loss(params)
        step, values = 1e-5, []
        for sign in (1, -1):
            detached.place = 0
            moved = jax.tree.map(lambda w, d, sign=sign: w + sign * step * d, params, direction)
            values.append(loss(moved))
            assert detached.place == len(detached.kept)
        measured = (values[0] - values[1]) / (2 * step)
        assert abs(float(slope)) > 1e-6
        np.testing.assert_allclose(float(slope), float(measured), rtol=1e-6, atol=1e-9)


def test_only_who_runs_no_attack_has_no_choice_of_its_batch_norm():
    without = {n for n in methods.names() if "attack_batch_norm" not in methods.hyperparameters(n)}
    # Free takes its perturbation from the gradient of the training pass itself.
    assert without == {"natural", "clp", "logit_squeezing", "free"}, (
        "a method that attacks takes attack_batch_norm, see docs/extending.md"
    )


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
@pytest.mark.parametrize("name", [
    name for name in methods.names() if "attack_batch_norm" in methods.hyperparameters(name)
])  # fmt: skip
def test_the_step_hears_which_batch_norm_its_attack_is_to_have(name, batch_norm):
    method = methods.create(name, attack_batch_norm=batch_norm)
    assert method.attack_batch_norm == batch_norm


def evaluating(name):
    """The option that lets a method attack a network without batch norm."""
    has_choice = "attack_batch_norm" in methods.hyperparameters(name)
    return {"attack_batch_norm": "eval"} if has_choice else {}


@functools.cache
def trained(name, steps=3, only=None, step_size=EPSILON / 2, early_stop="", **hyperparameters):
    """The weights after some steps of a method on random images; `only` weights the examples."""
    method = methods.create(name, **{**evaluating(name), **hyperparameters})
    model = models.create("digits_cnn", num_classes=CLASSES)
    optimizer = create_optimizer("sgd", lambda step: 0.5)
    settings = StepSettings("linf", STEPS, data.Augmentation(), early_stop=early_stop)
    devices = parallel.local_devices(1)
    step = parallel.map_over_devices(
        make_train_step(model, method, optimizer, settings), devices, in_axes=(0, 0, None, None)
    )
    variables = model.init(jax.random.key(5), jnp.zeros((1, 8, 8, 1)))
    rows = {"example": BATCH, "position": BATCH}[method.memory_of]
    state = create_state(variables, optimizer, method.init(rows, (8, 8, 1)), False)
    state = parallel.replicate(state, devices)
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (BATCH, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, BATCH, dtype=np.int32)
    weight = np.ones(BATCH, np.float32)
    if only is not None:
        logits = model.apply(variables, data.to_float(images), train=False)
        weight = only(np.argmax(logits, -1) == labels).astype(np.float32)
        assert 0 < weight.sum() < BATCH
    batch = RawBatch(images, labels, np.arange(BATCH, dtype=np.int32), weight)
    batch = parallel.split_over_devices(batch, 1)
    scalars = {"epsilon": EPSILON, "step_size": step_size, **method.scalars_at(0.0)}
    scalars = {key: np.float32(value) for key, value in scalars.items()}
    for _ in range(steps):
        state, _ = step(state, batch, scalars, jax.random.key(3))
    return parallel.unreplicate(state).params


BIT_FOR_BIT = [
    ("fat", {"tau": STEPS, "start": "uniform", "omega": 0.0}, "standard", {}),
    ("fat_trades", {"tau": STEPS}, "trades", {}),
    ("fat_mart", {"tau": STEPS, "start": "uniform"}, "mart", {}),
    (
        "iaat",
        {"fixed_epsilon_epochs": float("inf"), "step_size": EPSILON},
        "standard",
        {"step_size": EPSILON},
    ),
    ("dynamic", {"fosc": -1e9}, "standard", {}),
]
UP_TO_ROUNDING = [
    ("nap", {"beta": 0.0}, "standard", {"loss": "bce"}),
    ("mart", {"beta": 0.0}, "standard", {"loss": "bce"}),
    ("lrm", {"pairing_ratio": None, "squeezing": 0.0}, "standard", {}),
    ("alp", {"weight": 0.0}, "standard", {}),
    ("uat", {"beta": 0.0}, "standard", {}),
    ("rst", {}, "trades", {}),
    ("logit_squeezing", {"weight": 0.0}, "natural", {}),
    ("trades", {"beta": 0.0}, "natural", {}),
    ("clp", {"weight": 0.0}, "natural", {}),
    ("sense", {"c": 1.0}, "natural", {}),
    ("cat", {"strength": 0}, "natural", {}),
    ("mma", {"clean_weight": 1.0}, "natural", {}),
    ("mart_subset", {"treatment": "fgsm"}, "standard", {}),
]


@pytest.mark.parametrize(("name", "options", "parent", "parent_options"), BIT_FOR_BIT)
def test_without_its_special_part_it_is_its_parent_bit_for_bit(
    name, options, parent, parent_options
):
    # An attack that stops early computes all rows: it then rounds as one that does not stop.
    found = trained(name, early_stop="scan", **options)
    expected = trained(parent, **parent_options)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "options", "parent", "parent_options"), UP_TO_ROUNDING)
def test_without_its_special_part_it_is_its_parent(name, options, parent, parent_options):
    found, expected = trained(name, **options), trained(parent, **parent_options)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


def test_sense_with_vanishing_c_is_standard_training_of_the_correctly_classified():
    found = trained("sense", steps=1, only=lambda right: right, early_stop="scan", c=0.0)
    expected = trained("standard", steps=1, only=lambda right: right, start="clean")
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rows_that_have_stopped_make_no_difference_computed_or_not():
    found, expected = (trained("fat", early_stop=choice) for choice in ("compact", "scan"))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("name", "batch_norm", "early_stop", "expected"),
    [
        # In the form of CPUs, and in that of all other platforms.
        ("fat", "eval", "", [True, False]),
        ("fat", "eval", "compact", [True]),
        ("fat", "eval", "scan", [False]),
        ("fat", "train", "", [False]),
        ("fat", "train", "compact", [False]),
        ("standard", "eval", "", [True]),
    ],
)
def test_rows_are_independent_where_batch_norm_is_fixed(
    name, batch_norm, early_stop, expected, monkeypatch
):
    promised, pgd = [], attacks.pgd

    def recording(*arguments, **options):
        promised.append(options["independent_rows"])
        return pgd(*arguments, **options)

    monkeypatch.setattr(attacks, "pgd", recording)
    trained(name, steps=1, early_stop=early_stop, attack_batch_norm=batch_norm)
    assert promised == expected


# What holds for every method; a new one is found by the registry.

every_method = pytest.mark.parametrize("name", methods.names())
# Options without which a method does nothing special in the first step.
AT_WORK = {"cat": {"strength": 2}}
# Methods whose images do not go by --epsilon, and how far these may be from the clean ones.
OWN_RADIUS = {"mma": 1.05 * methods.hyperparameters("mma")["d_max"]}


class Solved(NamedTuple):
    """What a method makes of a batch."""

    perturbation: methods.Perturbation
    losses: jax.Array
    gradient: dict


class Given(NamedTuple):
    """What differs from example to example, rows [B], and what is one for all."""

    rows: dict
    epsilon: np.ndarray
    params: dict


def given(name, epsilon=EPSILON, scale=1.0, seed=1):
    """A batch near the edges of the box, and a linear network whose logits are of a scale."""
    rng = np.random.default_rng(seed)
    images = np.clip(rng.uniform(-0.3, 1.3, (BATCH, *SHAPE)), 0, 1).astype(np.float32)
    kernel = rng.normal(size=(int(np.prod(SHAPE)), CLASSES))
    memory = methods.create(name).init(BATCH, SHAPE)
    rows = {
        "images": images,
        "labels": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        "positions": np.arange(BATCH, dtype=np.int32),
        "keys": jax.random.split(jax.random.key(seed), BATCH),
        "memory": jax.tree.map(np.asarray, memory),
    }
    params = {"kernel": np.float32(scale * kernel), "bias": np.zeros(CLASSES, np.float32)}
    return Given(rows, np.float32(epsilon), {"Dense_0": params})


def solve(name):
    """A function of what is given, for the one device of a mapped axis."""
    method = methods.create(name, **evaluating(name), **AT_WORK.get(name, {}))

    def run(given):
        rows = given.rows
        scalars = {key: jnp.float32(value) for key, value in method.scalars_at(3.0).items()}
        batch = Batch(rows["images"], rows["labels"], rows["positions"], jnp.ones(BATCH))
        inner = Inner(
            keys=rows["keys"],
            positions=rows["positions"],
            batch_size=BATCH,
            logits_fn=BoundNetwork(Linear(), given.params, {}).logits_fn("eval"),
            batch=batch,
            threat=attacks.ThreatModel("linf", given.epsilon),
            steps=2,
            step_size=0.8 * given.epsilon,
            scalars=scalars,
            memory=rows["memory"],
        )
        perturbation = method.perturb(inner)

        def loss(params):
            network = BoundNetwork(Linear(), params, {})
            outer = Outer(jax.random.key(0), network, batch, perturbation, scalars)
            values = method.outer(outer).loss
            return jnp.mean(values), values

        gradient, values = jax.grad(loss, has_aux=True)(given.params)
        return Solved(perturbation, values, gradient)

    def on_one_device(given):
        one = jax.tree.map(lambda leaf: leaf[None], given)
        return jax.tree.map(lambda leaf: leaf[0], jax.vmap(run, axis_name=parallel.AXIS)(one))

    return on_one_device


@functools.cache
def compiled(name):
    return jax.jit(solve(name))


@every_method
def test_it_says_what_it_takes_gives_and_where_it_is_from_and_its_example_runs(name, documented):
    factory = registry._METHODS[name].factory
    documented(factory, f"method {name}", ("Args", "Returns", "Raises", "Example", "Source"))
    for option in methods.hyperparameters(name):
        assert f"\n  {option}: " in inspect.getdoc(factory), f"method {name}: Args lacks {option}"


@every_method
def test_it_is_made_again_from_what_it_says(name):
    said = methods.hyperparameters(name)
    again = methods.create(name, **json.loads(json.dumps(said)))
    made = methods.create(name)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if not callable(value):
            assert getattr(again, field.name) == value, field.name
    assert made.name == name and again.scalars_at(7.5) == made.scalars_at(7.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.replays = 2


@every_method
def test_a_value_for_each_example_in_the_types_that_it_promises(name):
    problem = given(name)
    found = compiled(name)(problem)
    chex.assert_shape(found.perturbation.images, (BATCH, *SHAPE))
    chex.assert_shape((found.losses, found.perturbation.backward_passes), (BATCH,))
    chex.assert_type([found.losses, found.perturbation.images], jnp.float32)
    chex.assert_type(found.perturbation.backward_passes, jnp.int32)
    chex.assert_trees_all_equal_shapes_and_dtypes(found.gradient, problem.params)
    chex.assert_trees_all_equal_shapes_and_dtypes(found.perturbation.memory, problem.rows["memory"])
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(found.gradient)) > 1e-4


@every_method
def test_its_images_lie_inside_of_the_ball_and_the_box(name):
    problem = given(name)
    images = np.asarray(compiled(name)(problem).perturbation.images)
    radius = OWN_RADIUS.get(name, EPSILON)
    assert images.min() >= 0 and images.max() <= 1
    assert np.abs(images - problem.rows["images"]).max() <= radius + 1e-6, (
        f"method {name}: if its radius is not --epsilon, say so in OWN_RADIUS of {__file__}"
    )


@pytest.mark.parametrize("name", [name for name in methods.names() if name not in OWN_RADIUS])
def test_without_a_radius_its_images_are_the_clean_ones(name):
    problem = given(name, epsilon=0.0)
    chex.assert_trees_all_close(
        compiled(name)(problem).perturbation.images, problem.rows["images"], atol=1e-6
    )


@every_method
def test_the_key_decides(name):
    problem = given(name)
    chex.assert_trees_all_equal(compiled(name)(problem), compiled(name)(problem))
    other = problem._replace(rows={**problem.rows, "keys": given(name, seed=2).rows["keys"]})
    found, again = (compiled(name)(one).perturbation.images for one in (problem, other))
    moved = found != again
    # Only by the start: PGD from the clean image, or none, draws nothing. The steps that these two
    # choose lead to the same corner from anywhere.
    start = methods.hyperparameters(name).get("start", "clean")
    draws = start != "clean" and name not in ("iaat", "mma")
    assert bool(np.any(moved)) == draws, (
        f"{name}: that the key changes its images is {np.any(moved)}, and by its hyper-parameter "
        f"start={start} it would be {draws}; a method that draws a start lets it be chosen"
    )


@every_method
def test_rows_are_independent_unless_it_says_that_it_couples_them(name):
    problem, company = given(name), given(name, seed=3)
    kept = np.isin(np.arange(BATCH), (1, 4, 6))

    def mixed(mine, theirs):
        return jnp.where(kept.reshape(-1, *[1] * (mine.ndim - 1)), mine, theirs)

    rows = jax.tree.map(mixed, problem.rows, company.rows)
    found, alone = compiled(name)(problem), compiled(name)(problem._replace(rows=rows))
    # The program is the same one, so each row is computed alike to the last bit.
    chex.assert_trees_all_equal(
        *(
            jax.tree.map(lambda leaf: np.asarray(leaf)[kept], one.perturbation)
            for one in (found, alone)
        )
    )
    same = np.isclose(found.losses[kept], alone.losses[kept], rtol=1e-6)
    assert same.all() == (not methods.create(name).couples_rows)
    order = np.random.default_rng(4).permutation(BATCH)
    if not methods.create(name).couples_rows:
        moved = compiled(name)(
            problem._replace(rows=jax.tree.map(lambda leaf: leaf[order], problem.rows))
        )
        chex.assert_trees_all_close(
            (moved.losses, moved.perturbation.images),
            (found.losses[order], found.perturbation.images[order]),
            rtol=1e-5,
            atol=1e-6,
        )


@every_method
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e4])
def test_extreme_logits_have_finite_images_losses_and_gradients(name, scale):
    chex.assert_tree_all_finite(compiled(name)(given(name, scale=scale)))


@every_method
def test_soft_labels_are_taken_or_refused_as_it_says(name):
    problem = given(name)
    soft = np.full((BATCH, CLASSES), 1 / CLASSES, np.float32)
    problem = problem._replace(rows={**problem.rows, "labels": soft})
    if methods.create(name).soft_labels:
        assert jax.eval_shape(solve(name), problem).losses.shape == (BATCH,)
    else:
        with pytest.raises(ValueError, match="accepted are hard labels"):
            jax.eval_shape(solve(name), problem)
