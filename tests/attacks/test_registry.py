"""An attack is a value: made by name, equal to its like, called, written down, and cited."""

import dataclasses
import inspect
import json
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import robustjax
from robustjax import attacks, data, evaluation
from robustjax.attacks import naming, registry
from robustjax.attacks.attack import completed, recorded_settings
from robustjax.attacks.autoattack.verification import is_inside
from robustjax.errors import UserError

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0.2, 0.8, (6, 4, 4, 1)).astype(np.float32)
WEIGHTS = RANDOM.normal(size=(16, 5)).astype(np.float32)
LABELS = np.argmax(IMAGES.reshape(6, -1) @ WEIGHTS, axis=1)
KEYS = jax.random.split(KEY, 6)
THREAT = attacks.ThreatModel("linf", 0.1)

# Of each kind one that is quickly run, with the function that does the same.
EXAMPLES = {
    "random-3": (attacks.random_noise, {"draws": 3}),
    "fgsm": (attacks.fgsm, {}),
    "fgsm-random": (attacks.fgsm, {"start": "uniform"}),
    "pgd-3x2": (attacks.pgd, {"steps": 3, "restarts": 2}),
    "cw-3": (attacks.cw_linf, {"steps": 3}),
    "apgd-ce(steps=4)": (attacks.apgd, {"steps": 4}),
    "apgd-dlr(steps=4)": (attacks.apgd, {"steps": 4, "loss": "dlr"}),
    "apgd-t(steps=3,num_targets=2)": (attacks.apgd_targeted, {"steps": 3, "num_targets": 2}),
    "malt(steps=3,num_targets=2)": (
        attacks.apgd_targeted,
        {"steps": 3, "num_targets": 2, "order": "nearest"},
    ),
    "fab-t(steps=3,num_targets=2)": (attacks.fab_targeted, {"steps": 3, "num_targets": 2}),
    "square(queries=20)": (attacks.square, {"queries": 20}),
    "spsa-2x8": (attacks.spsa, {"steps": 2, "samples": 8}),
    "deepfool(steps=3)": (attacks.deepfool, {"steps": 3}),
}


def linear(weights, dtype=np.float32):
    """A network; those of one dtype are attacked by one program, which is compiled once."""

    def network(images, *_):
        return (images.reshape(len(images), -1) @ weights).astype(dtype)

    return network


network = linear(WEIGHTS)


def test_every_kind_has_an_example():
    kinds = {naming.parse(name).kind for name in EXAMPLES} | {"autoattack", "autoattack-rand"}
    assert kinds == set(attacks.names()), (
        "an attack without an example: add to EXAMPLES of this file one that is quickly run, with "
        "its function"
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_does_what_its_function_does(name):
    function, settings = EXAMPLES[name]
    value = attacks.create(name)
    found = value(KEYS, network, IMAGES, LABELS, THREAT)
    expected = function(KEYS, network, IMAGES, LABELS, THREAT, **settings)
    chex.assert_trees_all_equal(found, expected)
    assert isinstance(found, attacks.AttackResult)
    np.testing.assert_array_less(np.abs(found.images - IMAGES), 0.1 + 1e-6)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_is_frozen_hashable_and_made_again_from_what_it_says(name):
    value = attacks.create(name)
    assert attacks.create(naming.name_of(value)) == value
    assert type(value)(**dataclasses.asdict(value)) == value
    assert len({value, dataclasses.replace(value)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_function_has_the_settings_and_the_defaults_of_its_value(name):
    function, _ = EXAMPLES[name]
    options = inspect.signature(function).parameters
    for field in dataclasses.fields(registry.ENTRIES[naming.parse(name).kind].attack):
        assert options[field.name].default == field.default, field.name


@pytest.mark.parametrize("name", [*EXAMPLES, "autoattack", "autoattack-rand"])
def test_every_attack_is_cited(name):
    assert robustjax.cite(name).startswith(("@inproceedings{", "@article{"))
    assert robustjax.cite(naming.parse(name).kind) == robustjax.cite(name)


def test_attacks_in_l1_are_cited_with_the_paper_of_their_form_there():
    for name in ("pgd-20", "apgd-ce", "apgd-t", "square", "autoattack"):
        entry = robustjax.cite(name, norm="l1")
        assert entry.startswith(robustjax.cite(name)) and "Mind the Box" in entry
        assert entry.count("@") == 2 and "Mind the Box" not in robustjax.cite(name, norm="l2")
    assert robustjax.cite("fab-t", norm="l1") == robustjax.cite("fab-t")
    with pytest.raises(UserError, match="norm=l0: accepted are linf"):
        robustjax.cite("pgd-20", norm="l0")


def test_names_say_what_values_say():
    given = attacks.create("pgd-20x5", step_size=2 / 255)
    assert given == attacks.PGD(steps=20, restarts=5, step_size=2 / 255)
    own = attacks.create("pgd-7(step_size=2/255, start=clean)")
    assert own == attacks.PGD(steps=7, step_size=2 / 255, start="clean")
    assert attacks.create("cw-30(success=any)") == attacks.CW(success="any")
    assert attacks.create("fgsm-random") == attacks.create("fgsm(start=uniform)")
    assert naming.name_of(attacks.FGSM(start="uniform")) == "fgsm-random"
    assert naming.name_of(attacks.FGSM(start="sign")) == "fgsm(start=sign)"


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
    assert attacks.create(naming.name_of(value)) == value


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("pgd-20(step=1)", "step is no setting of it; .*did you mean 'steps'"),
        ("pgd-20(steps=3)", "steps is given twice"),
        ("pgd-20(start=clean,start=clean)", "start is given twice"),
        ("pgd-20(step_size=fast)", "step_size is fast; accepted is a number"),
        ("pgd-20(step_size=-1)", "step_size is -1; accepted are numbers, 0 or more"),
        ("pgd-20(step_size=0)", "step_size is 0; accepted are numbers above 0"),
        ("pgd-20(step_size=nan)", "step_size is nan"),
        ("pgd-20(restarts=2.5)", "restarts is 2.5; accepted is a whole number"),
        ("pgd-20(restarts=0)", "restarts=0: accepted are"),
        ("pgd-20(start=cold)", "start=cold: accepted are"),
        ("pgd-20(loss=square)", "loss=square: accepted are cross_entropy"),
        ("pgd-20(targets=most)", "targets=most: accepted are next, least, random"),
        ("pgd-20(stop=misclassified)", "stop cannot be given by name"),
        ("pgd-20(clean)", "clean is no setting; accepted is NAME=VALUE"),
        ("pgd-20()", "is no setting"),
        ("pgd-20(start=clean", "accepted are clean"),
        ("apgd-ce(loss=dlr)", "loss is given twice"),
        ("fgsm-random(start=clean)", "start is given twice"),
        ("square(queries=0)", "queries=0: accepted are"),
        ("apgd-t(loss=ce)", "loss=ce: accepted are dlr, margin"),
    ],
)
def test_what_a_name_cannot_say_is_said(name, complaint):
    with pytest.raises(ValueError, match=complaint):
        attacks.create(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("pgd", "pgd-20"), ("pdg-7", "pgd-7"), ("pgd-3x2x4", "pgd-3x2"), ("random-3x2", "random-3"),
     ("PGD_20", "pgd-20"), ("agpd-t", "apgd-t"), ("cw", "cw-20"), ("fgms", "fgsm"),
     ("fgsm-rand", "fgsm-random")],
)  # fmt: skip
def test_what_is_suggested_can_be_created(name, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        attacks.create(name)
    assert attacks.create(meant)


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


@dataclasses.dataclass(frozen=True)
class OnlyL2:
    steps: int = 3

    def __call__(self, key, logits_fn, images, labels, threat):
        if threat.norm != "l2":
            raise UserError("threat.norm is not l2")
        return attacks.PGD(self.steps)(key, logits_fn, images, labels, threat)


@dataclasses.dataclass(frozen=True)
class OfNumPy:
    steps: int = 3

    def __call__(self, key, logits_fn, images, labels, threat):
        return attacks.AttackResult(np.asarray(images), np.zeros(len(images), bool), self.steps)


def test_settings_are_tried_on_a_ball_that_the_attack_is_made_for(monkeypatch):
    monkeypatch.setattr(OnlyL2, "__module__", "robustjax.attacks.only_l2")
    entry = registry.Entry(OnlyL2, "pgd", norms=("l2",), form="only-l2")
    monkeypatch.setitem(registry.ENTRIES, "only-l2", entry)
    assert attacks.create("only-l2(steps=4)") == OnlyL2(4)


def test_an_attack_of_somebody_s_own_is_not_traced_to_try_its_settings(monkeypatch):
    entry = registry.Entry(OfNumPy, "pgd", form="of-numpy")
    monkeypatch.setitem(registry.ENTRIES, "of-numpy", entry)
    assert attacks.create("of-numpy(steps=4)") == OfNumPy(4)


# What holds for every attack; a new one is found by the registry.

every_attack = pytest.mark.parametrize("name", EXAMPLES)


def balls(name):
    entry = registry.ENTRIES[naming.parse(name).kind]
    radii = {"linf": 0.1, "l2": 0.3, "l1": 0.5}
    return [attacks.ThreatModel(norm, radii[norm]) for norm in entry.norms]


@every_attack
def test_what_an_attack_returns_lies_inside_of_the_ball_and_the_box(name):
    value, edge = attacks.create(name), np.clip(IMAGES * 3 - 1, 0, 1)
    for threat in balls(name):
        found = value(KEYS, network, edge, LABELS, threat)
        chex.assert_shape(found.images, edge.shape)
        chex.assert_shape([found.success, found.backward_passes], (6,))
        chex.assert_type([found.images, found.backward_passes], [jnp.float32, jnp.int32])
        assert is_inside(
            np.asarray(found.images), edge, threat.norm, np.full(6, threat.epsilon), (0, 1)
        ).all()
        wrong = np.argmax(network(np.asarray(found.images)), axis=1) != LABELS
        np.testing.assert_array_equal(found.success, wrong)


@every_attack
def test_without_a_radius_nothing_moves(name):
    for threat in balls(name):
        still = dataclasses.replace(threat, epsilon=0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = attacks.create(name)(KEYS, network, IMAGES, LABELS, still)
        np.testing.assert_allclose(found.images, IMAGES, atol=1e-6)
        assert not np.any(found.success)


@every_attack
def test_the_key_decides_and_the_company_does_not(name):
    value, kept = attacks.create(name), np.array([4, 1])
    whole = value(KEYS, network, IMAGES, LABELS, THREAT)
    chex.assert_trees_all_equal(value(KEYS, network, IMAGES, LABELS, THREAT), whole)
    # Two examples among four others, which are wrong from the start.
    images, labels = 1 - IMAGES, (np.argmax(network(1 - IMAGES), axis=1) + 1) % 5
    keys = jax.random.split(jax.random.key(1), 6).at[kept].set(KEYS[kept])
    images[kept], labels[kept] = IMAGES[kept], LABELS[kept]
    some = value(keys, network, images, labels, THREAT)
    np.testing.assert_allclose(some.images[kept], whole.images[kept], atol=1e-6)
    np.testing.assert_array_equal(some.success[kept], whole.success[kept])


@every_attack
def test_images_of_any_precision_are_attacked_in_float32_at_least(name):
    value = attacks.create(name)
    found = value(KEYS, linear(WEIGHTS, np.float16), np.float16(IMAGES), LABELS, THREAT)
    chex.assert_type(found.images, jnp.float32)
    chex.assert_tree_all_finite(found.images)
    for dtype, expected in ((jnp.bfloat16, jnp.float32), (jnp.float64, jnp.float64)):
        with jax.enable_x64(dtype == jnp.float64):
            images = jax.ShapeDtypeStruct(IMAGES.shape, dtype)
            traced = jax.eval_shape(
                lambda images, of=dtype: value(KEYS, linear(WEIGHTS, of), images, LABELS, THREAT),
                images,
            )
        chex.assert_type(traced.images, expected)


@every_attack
def test_huge_logits_leave_no_pixel_without_a_number(name):
    found = attacks.create(name)(KEYS, linear(WEIGHTS * 1e30), IMAGES, LABELS, THREAT)
    chex.assert_tree_all_finite(found.images)


@pytest.mark.parametrize(
    "function",
    dict.fromkeys(
        [*(function for function, _ in EXAMPLES.values()), attacks.autoattack, attacks.create]
    ),
    ids=lambda function: function.__name__,
)
def test_an_attack_says_what_it_takes_gives_and_where_it_is_from(function, documented):
    sections = ("Args", "Returns", "Raises", "Example", "Source")
    is_attack = function is not attacks.create
    documented(function, function.__name__, sections if is_attack else sections[:-1])


@every_attack
def test_a_value_says_what_its_settings_are(name):
    said = inspect.getdoc(registry.ENTRIES[naming.parse(name).kind].attack)
    assert "Attributes:" in said
