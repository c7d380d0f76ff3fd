"""An attack is a value: made by name, equal to its like, called, written down, and cited."""

import dataclasses
import doctest
import importlib
import inspect
import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustjax
from robustjax import attacks, data, evaluation
from robustjax.attacks import registry
from robustjax.attacks.attack import completed, recorded_settings
from robustjax.attacks.autoattack.verification import is_inside

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0.2, 0.8, (6, 4, 4, 1)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(16, 5)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(6, -1) @ WEIGHTS, axis=1)
THREAT = attacks.ThreatModel("linf", 0.1)

# Of each kind one that is quickly run, with the function that does the same.
EXAMPLES = {
    "random-3": (attacks.random_noise, {"draws": 3}),
    "fgsm": (attacks.fgsm, {}),
    "pgd-3x2": (attacks.pgd, {"steps": 3, "restarts": 2}),
    "cw-3": (attacks.cw_linf, {"steps": 3}),
    "apgd-ce(steps=4)": (attacks.apgd, {"steps": 4}),
    "apgd-dlr(steps=4)": (attacks.apgd, {"steps": 4, "loss": "dlr"}),
    "apgd-t(steps=3,num_targets=2)": (attacks.apgd_targeted, {"steps": 3, "num_targets": 2}),
    "fab-t(steps=3,num_targets=2)": (attacks.fab_targeted, {"steps": 3, "num_targets": 2}),
    "square(queries=20)": (attacks.square, {"queries": 20}),
    "spsa-2x8": (attacks.spsa, {"steps": 2, "samples": 8}),
    "deepfool(steps=3)": (attacks.deepfool, {"steps": 3}),
}


def network(images, *_):
    return images.reshape(len(images), -1) @ WEIGHTS


def test_every_kind_has_an_example():
    kinds = {registry.parse(name).kind for name in EXAMPLES}
    assert kinds | {"autoattack", "autoattack-rand"} == set(attacks.names())


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_does_what_its_function_does(name):
    function, settings = EXAMPLES[name]
    value = attacks.create(name)
    found = value(KEY, network, IMAGES, LABELS, THREAT)
    expected = function(KEY, network, IMAGES, LABELS, THREAT, **settings)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert isinstance(found, attacks.AttackResult)
    np.testing.assert_array_less(np.abs(found.images - IMAGES), 0.1 + 1e-6)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_is_frozen_hashable_and_made_again_from_what_it_says(name):
    value = attacks.create(name)
    assert attacks.create(registry.name_of(value)) == value
    assert type(value)(**dataclasses.asdict(value)) == value
    assert len({value, dataclasses.replace(value)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_function_has_the_settings_and_the_defaults_of_its_value(name):
    function, _ = EXAMPLES[name]
    options = inspect.signature(function).parameters
    for field in dataclasses.fields(registry.ENTRIES[registry.parse(name).kind].attack):
        assert options[field.name].default == field.default, field.name


@pytest.mark.parametrize("name", [*EXAMPLES, "autoattack", "autoattack-rand"])
def test_every_attack_is_cited(name):
    assert robustjax.cite(name).startswith("@inproceedings{")
    assert robustjax.cite(registry.parse(name).kind) == robustjax.cite(name)


def test_names_say_what_values_say():
    given = attacks.create("pgd-20x5", step_size=2 / 255)
    assert given == attacks.PGD(steps=20, restarts=5, step_size=2 / 255)
    own = attacks.create("pgd-7(step_size=2/255, start=clean)")
    assert own == attacks.PGD(steps=7, step_size=2 / 255, start="clean")
    assert attacks.create("cw-30(success=any)") == attacks.CW(success="any")


@given(
    st.builds(
        attacks.PGD,
        steps=st.integers(1, 100),
        step_size=st.none() | st.floats(1e-6, 10),
        loss=st.sampled_from(["cw_margin", "dlr"]),
        start=st.sampled_from(["uniform", "gaussian", "sign"]),
        restarts=st.integers(1, 9),
        success=st.sampled_from(["last", "any"]),
        targets=st.none() | st.sampled_from(["next", "least", "random"]),
    )
)
def test_any_value_has_a_name(value):
    assert attacks.create(registry.name_of(value)) == value


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("pgd-20(step=1)", "step is no setting of it; .*did you mean 'steps'"),
        ("pgd-20(steps=3)", "steps is given twice"),
        ("pgd-20(start=clean,start=clean)", "start is given twice"),
        ("pgd-20(step_size=fast)", "step_size=fast: accepted is a number"),
        ("pgd-20(step_size=-1)", "step_size=-1: accepted are numbers, 0 or more"),
        ("pgd-20(step_size=0)", "step_size=0: accepted are numbers above 0"),
        ("pgd-20(step_size=nan)", "step_size=nan"),
        ("pgd-20(restarts=2.5)", "restarts=2.5: accepted is a whole number"),
        ("pgd-20(restarts=0)", "restarts is 0"),
        ("pgd-20(start=cold)", "start is 'cold'"),
        ("pgd-20(loss=square)", "loss=square: accepted are cross_entropy"),
        ("pgd-20(targets=most)", "targets=most: accepted are next, least, random"),
        ("pgd-20(stop=misclassified)", "stop cannot be given by name"),
        ("pgd-20(clean)", "clean is no setting; accepted is name=value"),
        ("pgd-20()", "is no setting"),
        ("pgd-20(start=clean", "unknown attack"),
        ("apgd-ce(loss=dlr)", "loss is given twice"),
        ("square(queries=0)", "queries is 0"),
        ("apgd-t(loss=ce)", "loss=ce: accepted are dlr, margin"),
    ],
)
def test_what_a_name_cannot_say_is_said(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        attacks.create(name)


def test_the_record_follows_the_value_that_ran(monkeypatch):
    images = (IMAGES * 255).astype(np.uint8)
    dataset = data.Dataset("six", images, LABELS.astype(np.int32), 5)
    names = ["pgd-3(restarts=2)", "apgd-t(steps=3)", "deepfool"]
    scores = evaluation.evaluate(names, KEY, network, dataset, THREAT, batch_size=6)
    for name in names:
        value = completed(attacks.create(name), THREAT, 5)
        assert scores[name].settings == {
            "norm": "linf", "epsilon": 0.1, **recorded_settings(value), **(
                {"warnings": scores[name].settings["warnings"]}
                if "warnings" in scores[name].settings
                else {}
            ),
        }  # fmt: skip
        assert json.loads(json.dumps(scores[name].settings)) == scores[name].settings
    pgd, ensemble = scores["pgd-3(restarts=2)"].settings, scores["apgd-t(steps=3)"].settings
    assert pgd["step_size"] == pytest.approx(0.2 / 3) and pgd["loss"] == "cross_entropy"
    assert ensemble["num_targets"] == 4 and ensemble["loss"] == "dlr"
    # Another default, in one place, is another record.
    initializer = inspect.unwrap(attacks.DeepFool.__init__)
    monkeypatch.setattr(initializer, "__defaults__", (7, 0.02, 10))
    again = evaluation.evaluate("deepfool", KEY, network, dataset, THREAT, batch_size=6)
    assert again["deepfool"].settings["steps"] == 7


def test_values_are_evaluated_as_they_are():
    images = (IMAGES * 255).astype(np.uint8)
    dataset = data.Dataset("six", images, LABELS.astype(np.int32), 5)
    value = attacks.PGD(steps=4, step_size=0.05, start="clean")
    found = evaluation.evaluate([value], KEY, network, dataset, THREAT, step_size=0.01)
    settings = found["pgd-4(step_size=0.05,start=clean)"].settings
    assert settings["step_size"] == 0.05 and settings["start"] == "clean"


@pytest.mark.parametrize("make", [attacks.PGD, attacks.CW, attacks.APGD])
@pytest.mark.parametrize("rule", ["next", "least", "random"])
def test_targets_by_name_are_those_given(make, rule):
    logits = network(IMAGES)
    if rule == "next":
        targets = (LABELS + 1) % 5
    elif rule == "least":
        targets = np.argmin(logits, axis=1)
    else:
        targets = attacks.targets.named_targets("random", KEY, network, IMAGES, jnp.asarray(LABELS))
        assert (np.asarray(targets) != LABELS).all() and len(set(np.asarray(targets))) > 1
    by_name = make(steps=5, targets=rule)(KEY, network, IMAGES, LABELS, THREAT)
    given = make(steps=5)(KEY, network, IMAGES, LABELS, THREAT, targets=jnp.asarray(targets))
    np.testing.assert_array_equal(by_name.images, given.images)
    reached = np.argmax(network(by_name.images), axis=1) == np.asarray(targets)
    np.testing.assert_array_equal(by_name.success, reached)


# What holds for every attack; a new one is found by the registry.

every_attack = pytest.mark.parametrize("name", EXAMPLES)


def balls(name):
    entry = registry.ENTRIES[registry.parse(name).kind]
    return [attacks.ThreatModel(norm, 0.3 if norm == "l2" else 0.1) for norm in entry.norms]


@every_attack
def test_what_an_attack_returns_lies_inside_of_the_ball_and_the_box(name):
    value, edge = attacks.create(name), np.clip(IMAGES * 3 - 1, 0, 1)
    for threat in balls(name):
        found = value(KEY, network, edge, LABELS, threat)
        assert found.images.shape == edge.shape and found.images.dtype == jnp.float32
        assert is_inside(
            np.asarray(found.images), edge, threat.norm, np.full(6, threat.epsilon), (0, 1)
        ).all()
        wrong = np.argmax(network(np.asarray(found.images)), axis=1) != LABELS
        np.testing.assert_array_equal(found.success, wrong)
        assert found.backward_passes.dtype == jnp.int32


@every_attack
def test_without_a_radius_nothing_moves(name):
    for threat in balls(name):
        still = dataclasses.replace(threat, epsilon=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = attacks.create(name)(KEY, network, IMAGES, LABELS, still)
        np.testing.assert_allclose(found.images, IMAGES, atol=1e-6)
        assert not np.any(found.success)


@every_attack
def test_the_key_decides_and_the_company_does_not(name):
    value, keys = attacks.create(name), jax.random.split(KEY, 6)
    whole = value(keys, network, IMAGES, LABELS, THREAT)
    again = value(keys, network, IMAGES, LABELS, THREAT)
    np.testing.assert_array_equal(whole.images, again.images)
    rows = np.array([4, 1])
    some = value(keys[rows], network, IMAGES[rows], LABELS[rows], THREAT)
    np.testing.assert_allclose(some.images, np.asarray(whole.images)[rows], atol=1e-6)
    np.testing.assert_array_equal(some.success, np.asarray(whole.success)[rows])


@every_attack
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_images_of_any_precision_are_attacked_in_float32_at_least(name, dtype):
    def narrow(images, *_):
        return network(images).astype(dtype)

    found = attacks.create(name)(KEY, narrow, jnp.asarray(IMAGES, dtype), LABELS, THREAT)
    assert found.images.dtype == jnp.float32 and bool(jnp.isfinite(found.images).all())


@every_attack
def test_huge_logits_leave_no_pixel_without_a_number(name):
    found = attacks.create(name)(KEY, lambda images: 1e30 * network(images), IMAGES, LABELS, THREAT)
    assert bool(jnp.isfinite(found.images).all())


@every_attack
def test_an_attack_says_what_it_takes_gives_and_where_it_is_from(name):
    function, _ = EXAMPLES[name]
    said = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:", "Example:", "Source:"):
        assert f"\n{section}" in said, section
    said = inspect.getdoc(registry.ENTRIES[registry.parse(name).kind].attack)
    assert "Attributes:" in said


@pytest.mark.parametrize(
    "module",
    sorted(
        {function.__module__ for function, _ in EXAMPLES.values()}
        | {registry.__name__, attacks.autoattack.__module__}
    ),
)
def test_the_examples_of_the_docstrings_run(module):
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted and not outcome.failed
