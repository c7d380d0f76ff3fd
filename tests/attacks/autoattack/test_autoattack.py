"""AutoAttack: bookkeeping, closed forms, resuming, warnings, and one compilation for all."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks
from robustjax.attacks import ThreatModel
from robustjax.attacks.autoattack import ensemble
from robustjax.attacks.autoattack import state as ensemble_state
from robustjax.attacks.autoattack import warnings as inspection
from robustjax.attacks.autoattack.verification import is_inside

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(48, 6)).astype(np.float32)
IMAGES = RANDOM.uniform(size=(40, 4, 4, 3)).astype(np.float32)
CLEAN = np.argmax(IMAGES.reshape(40, 48) @ WEIGHTS, axis=1)
LABELS = np.where(np.arange(40) < 5, (CLEAN + 1) % 6, CLEAN)  # the first five are wrong as they are
STANDARD = ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]


def linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(ensemble, "STEPS", 12)
    monkeypatch.setattr(ensemble, "QUERIES", 30)


def worst_leads(norm, epsilon):
    """The largest lead of a wrong class that the ball, without a box, allows: [N], float64."""
    images, weights = IMAGES.reshape(40, 48).astype(np.float64), WEIGHTS.astype(np.float64)
    directions = weights[None] - weights.T[LABELS][:, :, None]
    dual = np.linalg.norm(directions, {"linf": 1, "l2": 2, "l1": np.inf}[norm], axis=1)
    logits = images @ weights
    leads = logits - logits[np.arange(40), LABELS][:, None] + epsilon * dual
    leads[np.arange(40), LABELS] = -np.inf
    return leads.max(axis=1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_model_it_is_exact(norm):
    epsilon = {"linf": 0.02, "l2": 0.1, "l1": 0.3}[norm]
    leads = worst_leads(norm, epsilon)
    assert 5 < (leads > 0).sum() < 35 and np.abs(leads).min() > 1e-3
    # A box that no image comes near.
    threat = ThreatModel(norm, epsilon, (-9.0, 9.0))
    report = attacks.autoattack(KEY, linear, IMAGES, LABELS, threat, batch_size=16)
    np.testing.assert_array_equal(report.robust, leads < 0)
    assert list(report.robust_accuracy) == STANDARD and list(report.seconds) == STANDARD[1:]
    assert report.robust_accuracy["clean"] == 35 / 40
    assert report.robust_accuracy["square"] == report.robust.mean()
    accuracies = list(report.robust_accuracy.values())
    assert accuracies == sorted(accuracies, reverse=True)
    wrong = np.argmax(linear(report.images), 1) != LABELS
    np.testing.assert_array_equal(wrong, ~report.robust)
    assert is_inside(report.images, IMAGES, norm, epsilon, (-9.0, 9.0)).all()
    np.testing.assert_array_equal(report.images[report.robust], IMAGES[report.robust])


def test_every_stage_attacks_survivors_alone_from_the_clean_image(monkeypatch):
    attacked = []

    def record(stage):
        def prepare(keys, logits_fn, images, labels, threat, **options):
            positions = [
                int(np.flatnonzero((image == IMAGES).all((1, 2, 3)))[0]) for image in images
            ]
            attacked.append((stage.name, positions))
            return stage.attack.prepare(keys, logits_fn, images, labels, threat, **options)

        return stage._replace(attack=types.SimpleNamespace(prepare=prepare))

    stages = tuple(record(stage) for stage in ensemble.standard_stages(6))
    monkeypatch.setattr(ensemble, "standard_stages", lambda *_: stages)
    report = attacks.autoattack(
        KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.02, (-9.0, 9.0)), batch_size=16
    )
    names = [name for name, _ in attacked]
    assert list(dict.fromkeys(names)) == STANDARD[1:]
    sizes = {len(at) for _, at in attacked}
    assert len(sizes) == 1 and max(sizes) <= 16
    seen = {name: set() for name in names}
    for name, at in attacked:
        seen[name] |= set(at)
    assert seen["apgd-ce"] == set(range(5, 40))
    assert seen["square"] <= seen["fab-t"] <= seen["apgd-t"] <= seen["apgd-ce"]
    assert len(seen["apgd-t"]) == round(40 * report.robust_accuracy["apgd-ce"])
    assert len(seen["square"]) == round(40 * report.robust_accuracy["fab-t"])


class Interrupted(Exception):
    pass


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_verdicts(tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble_state, "SECONDS_BETWEEN_SAVES", 0.0)
    threat = ThreatModel("linf", 0.015)
    path = tmp_path / "state.npz"

    def run(**options):
        return attacks.autoattack(KEY, linear, IMAGES, LABELS, threat, batch_size=16, **options)

    whole = run()
    for last in ("apgd-ce", "apgd-t", "fab-t"):

        def stop(attack, done, of, accuracy, last=last):
            assert 0 < done <= of <= 35 * 5 and 0 <= accuracy <= 35 / 40
            if attack == last and 2 * done > of:
                raise Interrupted

        with pytest.raises(Interrupted):
            run(state_path=path, progress=stop)
    heard = []
    found = run(state_path=path, progress=lambda *news: heard.append(news))
    assert heard[0][0] == "fab-t" and 2 * heard[0][1] > heard[0][2]
    ends = {attack: (done, of) for attack, done, of, _ in heard}
    assert list(ends) == ["fab-t", "square"] and all(done == of for done, of in ends.values())
    np.testing.assert_array_equal(found.robust, whole.robust)
    np.testing.assert_array_equal(found.images, whole.images)
    assert found.robust_accuracy == whole.robust_accuracy
    # Whole as it is now, nothing is attacked again.
    heard.clear()
    again = run(state_path=path, progress=lambda *news: heard.append(news))
    assert heard == [] and again.robust_accuracy == whole.robust_accuracy
    with pytest.raises(ValueError, match="belongs to an evaluation of another network"):
        attacks.autoattack(
            KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.01), batch_size=16, state_path=path
        )
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no state of an evaluation"):
        run(state_path=path)


def test_nothing_depends_on_the_batch_nor_on_the_devices():
    def run(**options):
        threat = ThreatModel("linf", 0.015)
        return attacks.autoattack(KEY, linear, IMAGES[:20], LABELS[:20], threat, **options)

    # Of 15 examples in 20 rows some are at several targets at a time, in 4 rows none.
    one, other = run(batch_size=40), run(batch_size=4, devices=jax.devices()[:4])
    assert 0 < one.robust.mean() < 0.75
    np.testing.assert_array_equal(other.robust, one.robust)
    np.testing.assert_allclose(other.images, one.images, atol=1e-6)
    assert other.robust_accuracy == one.robust_accuracy


def test_a_second_network_and_another_radius_compile_nothing(count_compilations):
    def run(scale, epsilon):
        weights = jnp.asarray(WEIGHTS * scale)
        return attacks.autoattack(
            KEY,
            lambda x: x.reshape(len(x), -1) @ weights,
            IMAGES,
            LABELS,
            ThreatModel("linf", epsilon),
            batch_size=16,
        )

    run(1.0, 0.015)
    with count_compilations() as compiled:
        run(0.5, 0.012)
        assert compiled() == 0


def test_without_a_radius_the_clean_accuracy_stays():
    report = attacks.autoattack(KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.0))
    assert set(report.robust_accuracy.values()) == {35 / 40}
    np.testing.assert_array_equal(report.images, IMAGES)


def lies(keys, logits_fn, images, labels, threat, *, shift=0.5):
    """An attack that says that it breaks all, and moves each image by so much."""

    def outcome(kept):
        broken = jnp.ones(len(images), bool)
        return attacks.AttackResult(images + shift, broken, kept.backward_passes)

    attack = attacks.APGD(steps=1).prepare(keys, logits_fn, images, labels, threat)
    return attack._replace(outcome=outcome)


def test_what_does_not_stand_a_second_look_goes_on_to_the_next_attack(monkeypatch):
    """The images of the first are inside of the ball and classified correctly."""
    unmoved = types.SimpleNamespace(prepare=functools.partial(lies, shift=0.0))
    stages = ensemble.standard_stages(6)
    threat = ThreatModel("linf", 0.03)
    monkeypatch.setattr(ensemble, "standard_stages", lambda *_: stages[:1])
    honest = attacks.autoattack(KEY, linear, IMAGES, LABELS, threat)
    stage = ensemble.Stage("lies", 9, unmoved)
    monkeypatch.setattr(ensemble, "standard_stages", lambda *_: (stage, stages[0]))
    report = attacks.autoattack(KEY, linear, IMAGES, LABELS, threat)
    assert report.robust_accuracy["lies"] == report.robust_accuracy["clean"] == 35 / 40
    np.testing.assert_array_equal(report.robust, honest.robust)
    assert 0 < report.robust.sum() < 35
    assert f"{report.robust.sum()} adversarial images did not stand" in report.warnings[-1]


def test_an_image_that_does_not_stand_a_second_look_counts_as_robust(monkeypatch):
    stage = ensemble.Stage("apgd-ce", 0, types.SimpleNamespace(prepare=lies))
    monkeypatch.setattr(ensemble, "standard_stages", lambda *_: (stage,))
    report = attacks.autoattack(KEY, linear, IMAGES, LABELS, ThreatModel("linf", 0.01))
    assert report.robust_accuracy == {"clean": 35 / 40, "apgd-ce": 35 / 40}
    np.testing.assert_array_equal(report.images, IMAGES)
    assert "35 adversarial images did not stand a second look" in report.warnings[-1]


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_are_attacked_and_said(classes):
    weights = WEIGHTS[:, :classes]
    labels = np.argmax(IMAGES.reshape(40, 48) @ weights, axis=1)
    report = attacks.autoattack(
        KEY,
        lambda x: x.reshape(len(x), -1) @ weights,
        IMAGES,
        labels,
        ThreatModel("linf", 0.03, (-9.0, 9.0)),
    )
    assert list(report.robust_accuracy) == STANDARD and 0 < report.robust.mean() < 1
    (warning,) = report.warnings
    assert f"only {classes} classes: {classes - 1} targets instead of 9" in warning
    assert ("difference of logits" in warning) == (classes < 4)


def test_version_rand_attacks_a_random_network():
    def noisy(images, key):
        return linear(images) + 0.05 * jax.random.normal(key, (len(images), 6))

    report = attacks.autoattack(
        KEY, noisy, IMAGES, LABELS, ThreatModel("linf", 0.03), version="rand", batch_size=40
    )
    assert list(report.robust_accuracy) == ["clean", "apgd-ce", "apgd-dlr"]
    assert report.robust_accuracy["apgd-dlr"] < report.robust_accuracy["clean"] - 0.1
    assert report.warnings == ()


def warnings_of(logits_fn, labels=LABELS):
    logits = np.asarray(logits_fn(jnp.asarray(IMAGES)))
    return inspection.inspect(logits_fn, IMAGES, labels, logits)


def test_nothing_is_said_of_an_ordinary_network():
    assert warnings_of(linear) == ()


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        (lambda z: jax.nn.softmax(z), "look like probabilities"),
        (lambda z: jnp.round(z), "is zero at 32 of 32 images"),
        (lambda z: z + jax.random.normal(KEY, z.shape), "the network is random"),
        (
            lambda z: jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct(z.shape, z.dtype), z),
            "calls back to the host",
        ),
        (
            lambda z: z - jax.jit(jax.grad(lambda v: jnp.sum(jnp.tanh(v))))(z),
            "takes gradients itself",
        ),
    ],
)
def test_what_makes_gradients_misleading_is_seen(spoil, warning):
    def network(images):
        return spoil(linear(images))

    if "host" in warning:  # which has no gradient to look at
        network = jax.custom_jvp(network)
        network.defjvp(lambda x, t: (network(*x), linear(*t)))
    found = warnings_of(network)
    assert any(warning in line for line in found), found


def test_a_network_with_a_state_of_its_own_is_seen():
    calls = []

    def network(images):
        calls.append(1)
        return linear(images) + len(calls)

    assert any("the network is random" in line for line in warnings_of(network))


def test_square_alone_is_worth_a_warning():
    found = {"clean": 0.9, "fab-t": 0.5, "square": 0.497}
    (warning,) = inspection.square_alone(found)
    assert "by 0.30 points" in warning
    assert inspection.square_alone({**found, "square": 0.499}) == ()
    assert inspection.square_alone({"clean": 0.9, "apgd-dlr": 0.1}) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "plus"}, "version=plus: accepted are standard, rand"),
        (
            {"version": "rand", "logits_fn": lambda images, key: linear(images)[:, :2]},
            "version='rand': the network has 2 classes",
        ),
        ({"batch_size": 0}, "batch_size=0: accepted are"),
        ({"images": IMAGES * 2}, "images holds pixels from .* inside of threat.bounds"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "images holds no image"),
        ({"threat": ThreatModel("linf", np.inf)}, "threat.epsilon=inf: accepted are finite"),
        ({"threat": ThreatModel(bounds=None)}, "threat.bounds=None: accepted are boxes"),
        ({"key": jax.random.split(KEY, 40)}, "accepted is a single one"),
        ({"labels": np.full((40, 6), 1 / 6, np.float32)}, "labels holds probabilities"),
    ],
)
def test_mistakes_are_named(change, message):
    given = {"key": KEY, "logits_fn": linear, "images": IMAGES, "labels": LABELS}
    given |= {"threat": ThreatModel(), **change}
    first = [given.pop(name) for name in ("key", "logits_fn", "images", "labels", "threat")]
    with pytest.raises(ValueError, match=message):
        attacks.autoattack(*first, **given)


def test_inside_jit_it_is_refused():
    with pytest.raises(ValueError, match="inside jit"):
        jax.jit(lambda x: attacks.autoattack(KEY, linear, x, LABELS, ThreatModel()).images)(IMAGES)


def test_under_l1_apgd_has_five_starts_and_five_targets():
    stages = {stage.name: stage for stage in ensemble.standard_stages(10, "l1")}
    turns = {name: stage.turns for name, stage in stages.items()}
    assert turns == {"apgd-ce": 5, "apgd-t": 5, "fab-t": 9, "square": 1}
    assert {stage.turns for stage in ensemble.standard_stages(3, "l1")} == {5, 2, 1}
    # Every turn is what the attack would do in a call of its own with as many restarts.
    threat, keys = ThreatModel("l1", 0.2, (-9.0, 9.0)), jax.random.split(KEY, 40)
    restarts = attacks.apgd(keys, linear, IMAGES, LABELS, threat, steps=5, restarts=2)
    value, success = attacks.APGD(steps=5), np.zeros(40, bool)
    for turn in range(2):
        prepared = value.prepare(
            keys, linear, IMAGES, LABELS, threat, first_restart=np.full(40, turn)
        )
        success |= np.asarray(prepared.run().success)
    np.testing.assert_array_equal(restarts.success, success)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_what_lies_outside_is_seen(norm):
    clean = np.full((4, 2, 2, 1), 0.95, np.float32)
    adversarial = clean.copy()
    adversarial[0, 0, 0] += 0.049
    adversarial[1, 0, 0] += 0.051  # outside of the box, and of the ball by 0.001
    adversarial[2, 0, 0] -= 0.0502
    adversarial[3, 0, 0] = np.nan
    inside = is_inside(adversarial, clean, norm, 0.05, (0.0, 1.0))
    np.testing.assert_array_equal(inside, [True, False, False, False])
    assert is_inside(adversarial[1:2], clean[1:2], norm, 0.06, None).all()


def test_a_state_file_keeps_everything(tmp_path):
    state = ensemble_state.State.begin(IMAGES, CLEAN != LABELS)
    state.begin_stage(1, 5)
    state.broken(2, 7, 1, IMAGES[7] + 0.01)
    state.withstood(0, 8)
    state.seconds["apgd-ce"] = 2.5
    path = ensemble_state.Path(tmp_path) / "state.npz"
    ensemble_state.save(state, path, "me")
    found = ensemble_state.load(path, IMAGES, "me")
    for field in dataclasses.fields(state):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(state, field.name))
    state.pending = state.pending[0]
    ensemble_state.save(state, path, "me")
    with pytest.raises(ValueError, match="holds no state of an evaluation .* earlier form"):
        ensemble_state.load(path, IMAGES, "me")


def test_the_first_target_that_breaks_an_example_counts_whichever_is_done_first():
    state = ensemble_state.State.begin(IMAGES, CLEAN != LABELS)
    state.begin_stage(2, 4)
    assert state.pending.sum(0).tolist() == [0] * 5 + [4] * 35
    state.broken(2, 9, 7, IMAGES[9] + 0.02)
    assert state.pending[:, 9].tolist() == [True, True, False, False] and not state.robust[9]
    state.broken(3, 9, 7, IMAGES[9] + 0.03)  # too late
    state.withstood(0, 9)
    np.testing.assert_array_equal(state.images[9], IMAGES[9] + 0.02)
    state.broken(1, 9, 7, IMAGES[9] + 0.01)
    np.testing.assert_array_equal(state.images[9], IMAGES[9] + 0.01)
    assert not state.pending[:, 9].any() and state.broken_by[9] == 7
    state.begin_stage(3, 1)
    assert state.pending.tolist() == [[False] * 5 + [True] * 4 + [False] + [True] * 30]
