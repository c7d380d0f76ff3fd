"""Checks for masked gradients: on made-up evidence, and on small models with known gradients."""

import dataclasses
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import attacks, data
from robustjax.diagnosis import evidence as masking_evidence
from robustjax.diagnosis.evidence import gather
from robustjax.diagnosis.findings import Comparison
from robustjax.diagnosis.records import Evidence, Settings
from robustjax.diagnosis.rules import judge
from robustjax.files import Path
from robustjax.reports import masking as masking_report
from robustjax.reports.figures import masking as masking_figures
from robustjax.runs.resumable import Unfinished

EPSILON = 0.03
THREAT = attacks.ThreatModel("linf", EPSILON)
SETTINGS = Settings(
    step_size=EPSILON / 5, steps=(1, 5, 20), attack_steps=20, restarts=2, queries=200,
    random_points=5,
)  # fmt: skip
WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
# Enough for a count to be significant.
EXAMPLES = 240


def network(parameters, images):
    """A linear model whose gradient can be spoiled; one program for all of its parameters."""
    slope, rounding = parameters["slope"], parameters["rounding"]
    images = slope * images + jax.lax.stop_gradient((1 - slope) * images)
    logits = parameters["scale"] * (images - 0.5).reshape(len(images), -1) @ parameters["weights"]
    return logits + rounding * (jnp.round(4 * logits) / 4 - logits)


SOUND = {"weights": WEIGHTS, "scale": 1.0, "slope": 1.0, "rounding": 0.0}
SPOILED = {
    "saturated": {"scale": 1e4},
    "quantised": {"rounding": 1.0},
    "misleading": {"slope": -1.0},
}


def linear(**changed):
    return jax.tree_util.Partial(network, jax.tree.map(jnp.float32, {**SOUND, **changed}))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(1)
    images = rng.integers(30, 226, (EXAMPLES, 4, 4, 1), dtype=np.uint8)
    labels = np.argmax((images / 255.0 - 0.5).reshape(EXAMPLES, -1) @ WEIGHTS, axis=1)
    labels = labels.astype(np.int32)
    labels[:6] = (labels[:6] + 1) % 3
    return data.Dataset("made", images, labels, 3)


def evidence_of(logits_fn, dataset, settings=SETTINGS, **options):
    return gather(jax.random.key(0), logits_fn, dataset, THREAT, settings, batch_size=60, **options)


@pytest.fixture(scope="module")
def sound(dataset):
    return evidence_of(linear(), dataset)


def withstands(dataset, epsilon):
    """Float64: no wrong class is ahead anywhere in the ball and the box."""
    images = dataset.images.reshape(EXAMPLES, -1) / 255.0 - 0.5
    low, high = np.maximum(images - epsilon, -0.5), np.minimum(images + epsilon, 0.5)
    robust = np.ones(EXAMPLES, bool)
    for shift in (1, 2):
        ahead = np.float64(WEIGHTS[:, dataset.labels] - WEIGHTS[:, (dataset.labels + shift) % 3]).T
        robust &= np.where(ahead > 0, ahead * low, ahead * high).sum(axis=1) > 0
    return robust


def test_a_linear_model_passes(sound):
    diagnosis = judge(sound)
    assert diagnosis.suspicious == ()
    comparisons = sum(len(check.comparisons) for check in diagnosis.checks)
    assert diagnosis.level == 0.01 / comparisons


def test_the_evidence_is_that_of_the_closed_form(sound, dataset):
    np.testing.assert_array_equal(sound.clean, withstands(dataset, 0))
    assert sound.clean.sum() == EXAMPLES - 6
    worst = withstands(dataset, EPSILON)
    assert 40 < worst.sum() < 200
    # What moves towards one wrong class may miss the other, so an attack is an upper bound.
    for found in (sound.margin, sound.dlr, sound.restarts[:, -1], sound.after(20)):
        assert np.all(found >= worst) and np.sum(found != worst) <= 5
    np.testing.assert_array_equal(sound.worst_case, worst)
    for place, epsilon in enumerate(sound.epsilons):
        bound = withstands(dataset, epsilon)
        assert np.all(sound.at_epsilon[:, place] >= bound)
        assert np.sum(sound.at_epsilon[:, place] != bound) <= 5
    assert sound.epsilons[-1] == 1 and not sound.at_epsilon[:, -1].any()
    assert sound.steps == (0, 1, 2, 3, 5, 7, 10, 15, 20) and sound.compared_steps == (1, 5, 20)
    losses = sound.loss[sound.clean]
    assert np.all(np.diff(losses.mean(axis=0)) >= 0) and np.isnan(sound.loss[~sound.clean]).all()
    # The softmax turns the gradient a little on the way, the weights do not.
    assert 0.9 < sound.alignment.mean() <= 1
    for found in (sound.fgsm, sound.restarts, sound.at_epsilon, sound.square, sound.random_search):
        assert not found[~sound.clean].any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("saturated", {"zero gradients", "a loss that does not saturate"}),
        ("quantised", {"zero gradients", "unbounded epsilon", "black boxes"}),
        ("misleading", {"unbounded epsilon", "black boxes"}),
    ],
)
def test_models_with_useless_gradients_are_suspicious(dataset, name, expected):
    found = set(judge(evidence_of(linear(**SPOILED[name]), dataset)).suspicious)
    assert expected <= found


def test_the_margin_does_not_saturate(sound, dataset):
    """Its gradient has the signs of the same model with small logits."""
    saturated = evidence_of(linear(**SPOILED["saturated"]), dataset)
    assert np.sum(saturated.margin != sound.margin) <= 2
    assert saturated.restarts[:, 0].sum() > sound.restarts[:, 0].sum() + 50


def test_transfer_sees_through_a_useless_gradient(dataset):
    quick = dataclasses.replace(SETTINGS, queries=0, random_points=1)
    quantised = linear(**SPOILED["quantised"])
    evidence = evidence_of(quantised, dataset, quick, source_fn=linear())
    assert evidence.square is None
    (check,) = (check for check in judge(evidence).checks if check.name == "black boxes")
    *_, by_transfer = check.comparisons
    assert by_transfer.statement == "broken by transfer, not by PGD"
    assert check.verdict == "suspicious" and by_transfer.count > 20 and by_transfer.p_value < 1e-6


def test_what_is_found_depends_on_no_batch_and_survives_an_interruption(sound, dataset, tmp_path):
    def kept():
        return Unfinished(Path(tmp_path), WEIGHTS, dataset.images, dataset.labels, 0)

    told = []

    def interrupt(name, done, total):
        told.append((name, done / total))
        if name == "restart 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evidence_of(linear(), dataset, progress=interrupt, unfinished=kept())
    assert [share for _, share in told] == sorted(share for _, share in told)
    told.clear()
    resumed = evidence_of(
        linear(), dataset, unfinished=kept(), progress=lambda *what: told.append(what)
    )
    before = [done for name, done, _ in told if name == "pgd"]
    assert len(before) == 1, "it was measured again"
    assert told[-1][1] == told[-1][2]
    for name in ("clean", "after_steps", "fgsm", "restarts", "at_epsilon", "margin", "square"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(sound, name), err_msg=name)


# On made-up evidence every rule can be broken alone.


def made_up(**changed):
    """A thousand examples, 900 correct, of which each stronger attack breaks some more."""
    count, steps = 1000, (0, 1, 5, 10, 20, 50, 100)

    def left(number):
        return np.arange(count) < number

    def columns(*numbers):
        return np.stack([left(number) for number in numbers], axis=1)

    fields = {
        "clean": left(900),
        "steps": steps,
        "compared_steps": steps[1:],
        "after_steps": columns(890, 850, 700, 600, 550, 545, 540),
        "loss": np.ones((count, len(steps))),
        "fgsm": columns(850, 780, 720, 650),
        "random_search": left(880),
        "restarts": columns(540, 530, 525),
        "epsilons": (0.05, 0.1, 0.5, 1.0),
        "at_epsilon": columns(800, 540, 100, 0),
        "margin": left(520),
        "dlr": left(515),
        "square": left(600),
        "transfer": left(700),
        "gradient": np.full(count, 1e-3),
        "clean_loss": np.full(count, 0.1),
        "alignment": np.full(count, 0.5),
    }
    return Evidence(**{**fields, **changed})


def without(found, broken):
    """The same, but these examples are broken too."""
    return found & ~np.isin(np.arange(len(found)), broken)


def replaced(columns, place, column):
    columns = columns.copy()
    columns[:, place] = column
    return columns


BASE = made_up()
LATE = np.arange(515)
BROKEN_RULES = {
    "zero gradients": {"gradient": np.where(np.arange(1000) < 40, 1e-42, 1e-3)},
    "noise, FGSM, PGD in order": {
        "after_steps": replaced(BASE.after_steps, 0, without(BASE.after_steps[:, 0], LATE))
    },
    "FGSM against PGD": {
        "fgsm": np.ones((1000, 4), bool) & BASE.clean[:, None],
        "after_steps": BASE.after_steps & (np.arange(1000) < 300)[:, None],
        "restarts": BASE.restarts & (np.arange(1000) < 300)[:, None],
        "margin": np.arange(1000) < 290,
        "dlr": np.arange(1000) < 290,
    },
    "a longer single step": {
        "fgsm": replaced(BASE.fgsm, 1, without(BASE.fgsm[:, 1], np.arange(600, 650)[:40]))
        & replaced(BASE.fgsm, 1, np.arange(1000) < 640)
    },
    "more steps": {"after_steps": replaced(BASE.after_steps, 3, np.arange(1000) < 500)},
    "convergence": {"after_steps": replaced(BASE.after_steps, 6, np.arange(1000) < 400)},
    "restarts": {"restarts": replaced(BASE.restarts, 2, np.arange(1000) < 350)},
    "larger epsilon": {"at_epsilon": replaced(BASE.at_epsilon, 0, np.arange(1000) < 500)},
    "unbounded epsilon": {"at_epsilon": replaced(BASE.at_epsilon, 3, np.arange(1000) < 40)},
    "a loss that does not saturate": {"dlr": np.arange(1000) < 350},
    "black boxes": {"square": np.arange(1000) < 480},
    "all attacks together": {
        "margin": ~np.isin(np.arange(1000), np.arange(0, 70)) & (np.arange(1000) < 520),
        "restarts": BASE.restarts & ~np.isin(np.arange(1000), np.arange(70, 140))[:, None],
        "square": without(BASE.square, np.arange(140, 200)),
    },
}


def test_stronger_attacks_that_break_more_are_no_reason_for_suspicion():
    assert judge(BASE).suspicious == ()
    assert set(BROKEN_RULES) == {check.name for check in judge(BASE).checks}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_each_rule_can_be_broken(name):
    diagnosis = judge(made_up(**BROKEN_RULES[name]))
    assert name in diagnosis.suspicious
    (check,) = (check for check in diagnosis.checks if check.name == name)
    assert any(part.p_value < diagnosis.level for part in check.comparisons)


@pytest.mark.parametrize("transfer", [480, 522])
def test_a_few_examples_are_no_reason_for_suspicion(transfer):
    """White-box PGD leaves 525 examples: 45 more are many, 3 more may be chance."""
    found = judge(made_up(transfer=np.arange(1000) < transfer)).suspicious
    assert found == (("black boxes",) if transfer == 480 else ())


@pytest.mark.parametrize("absent", ["dlr", "square", "transfer"])
def test_an_attack_may_be_left_out(absent):
    evidence = made_up(**{absent: None})
    text = masking_report.to_markdown(masking_report.summarize(judge(evidence), evidence))
    spelled = {"dlr": "APGD", "square": "Square", "transfer": "transfer"}[absent]
    assert judge(evidence).suspicious == () and spelled not in text


def test_without_a_correct_example_there_is_nothing_to_suspect():
    changed = {
        name: np.zeros_like(value)
        for name, value in BASE._asdict().items()
        if isinstance(value, np.ndarray) and value.dtype == bool
    }
    evidence = made_up(**changed)
    assert not evidence.clean.any()
    diagnosis = judge(evidence)
    assert diagnosis.suspicious == ()
    assert masking_report.to_markdown(masking_report.summarize(diagnosis, evidence))


@pytest.mark.parametrize(("count", "of", "allowed"), [(0, 0, 0.5), (3, 3, 0.5), (9, 40, 0.2)])
def test_p_values_are_tails_of_the_binomial_distribution(count, of, allowed):
    expected = tail(count, of, allowed)
    assert Comparison("", count, of, allowed).p_value == pytest.approx(expected)


def test_false_alarms_are_rare():
    """Attacks of equal strength: which of two breaks an example is the toss of a coin."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        steps = rng.random((1000, 7)) < 0.5
        fair = made_up(
            clean=np.ones(1000, bool), after_steps=steps, fgsm=rng.random((1000, 4)) < 0.5,
            at_epsilon=np.concatenate([rng.random((1000, 3)) < 0.5, np.zeros((1000, 1), bool)], 1),
        )  # fmt: skip
        names = set(judge(fair).suspicious)
        alarms += bool(names & {"more steps", "larger epsilon", "a longer single step"})
    assert alarms <= 5


@pytest.mark.parametrize(
    ("norm", "epsilon", "widest"), [("linf", 0.3, 1), ("l2", 0.5, 4), ("l1", 2, 16), ("linf", 2, 1)]
)
def test_the_radii_reach_every_image(norm, epsilon, widest):
    radii = masking_evidence.radii(attacks.ThreatModel(norm, epsilon), 16)
    assert radii[-1] == widest and all(low < high for low, high in itertools.pairwise(radii))
    assert epsilon in radii or epsilon > widest


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step_size": 0}, "step_size=0: accepted"),
        ({"steps": (5, 1)}, "steps=.*: accepted"),
        ({"steps": (5,)}, "steps=.*: accepted"),
        ({"restarts": 1}, "restarts=1: accepted are whole numbers, 2 to"),
        ({"queries": -1}, "queries=-1: accepted"),
    ],
)
def test_settings_that_compare_nothing_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Settings(**{"step_size": 0.1, **changed})


@pytest.mark.parametrize(
    "threat",
    [attacks.ThreatModel("linf", 0.0), attacks.ThreatModel("linf", 0.1, None),
     attacks.ThreatModel("l2", math.inf)],
)  # fmt: skip
def test_a_ball_without_radius_is_refused(dataset, threat):
    with pytest.raises(ValueError, match="finite epsilon above 0 and a box"):
        gather(jax.random.key(0), linear(), dataset, threat, SETTINGS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size=0: accepted"),
        ({"threat": "linf"}, "threat=str: accepted"),
        (
            {"threat": attacks.ThreatModel("linf", np.full(2, 0.1))},
            "epsilon=float.*: accepted",
        ),
        ({"dataset": None}, "dataset=NoneType: accepted"),
        ({"key": None}, "key=None: accepted"),
        ({"settings": None}, "settings=NoneType: accepted"),
        ({"logits_fn": 5}, "logits_fn=5: accepted"),
    ],
)
def test_what_cannot_be_diagnosed_is_named(dataset, changed, message):
    arguments = {"key": jax.random.key(0), "logits_fn": linear(), "dataset": dataset}
    arguments |= {"threat": attacks.ThreatModel("linf", 0.1), "settings": SETTINGS}
    with pytest.raises(ValueError, match=message):
        gather(**arguments | changed)


def test_no_evidence_is_no_diagnosis():
    with pytest.raises(ValueError, match="evidence=None: accepted is what"):
        judge(None)


def test_the_report_and_the_figure(sound, tmp_path):
    about = {
        "method": "natural", "model": "linear", "dataset": "made", "seed": 0,
        "attacks": {"norm": "linf", "epsilon": EPSILON, "attack_steps": 20},
    }  # fmt: skip
    for name, evidence in (("sound", sound), ("masked", made_up(square=np.zeros(1000, bool)))):
        summary = masking_report.summarize(judge(evidence), evidence, **about)
        summary = json.loads(json.dumps(summary))
        text = masking_report.to_markdown(summary)
        assert summary["verdict"] == ("pass" if name == "sound" else "suspicious")
        assert ("**broken by Square" in text) == (name == "masked")
        path = masking_figures.draw_diagnosis(summary, Path(tmp_path) / f"{name}.png")
        assert len(path.read_bytes()) > 20000
        numbers = path.with_suffix(".csv").read_text()
        accuracy = 100 * evidence.after(evidence.longest).mean()
        assert f"accuracy against steps,{evidence.longest},{accuracy}" in numbers


@pytest.mark.parametrize(
    ("transfer", "verdict"),
    [(480, "suspicious"), (518, "undecided"), (520, "undecided"), (521, "pass")],
)
def test_a_condition_that_holds_beyond_chance_is_no_pass(transfer, verdict):
    """Of 525 that withstand white-box PGD, 7, 5 and 4 to 0 by chance: 1/128, 1/32, 1/16."""
    evidence = made_up(transfer=np.arange(1000) < transfer)
    diagnosis = judge(evidence)
    (check,) = (check for check in diagnosis.checks if check.name == "black boxes")
    assert diagnosis.verdict == check.verdict == verdict
    summary = masking_report.summarize(diagnosis, evidence)
    count, line = len(diagnosis.checks), masking_report.verdict_line(summary)
    assert (
        line
        == {
            "suspicious": f"suspicious (1 of {count} checks: black boxes)",
            "undecided": "undecided (too few examples to decide: black boxes)",
            "pass": f"pass ({count} checks)",
        }[verdict]
    )
    text = masking_report.to_markdown(summary)
    assert ("examples decide it" in text) == (verdict == "undecided")
    assert "| sign test |" in text and "| binomial test |" in text


def test_an_undecided_check_beside_a_suspicious_one_is_named_too():
    broken = {"square": np.arange(1000) < 388, "restarts": BASE.restarts.copy()}
    # 131 of 540 against 20 %: a tail of 1.5 %.
    broken["restarts"][:, -1] &= np.arange(1000) < 409
    evidence = made_up(**broken)
    line = masking_report.verdict_line(masking_report.summarize(judge(evidence), evidence))
    assert line == (
        "suspicious (1 of 12 checks: black boxes; too few examples to decide: restarts)"
    )


def tail(count, of, allowed):
    """In whole numbers and float64, from the definition."""
    return sum(
        math.comb(of, k) * allowed**k * (1 - allowed) ** (of - k) for k in range(count, of + 1)
    )


@pytest.mark.parametrize(("count", "of", "allowed"), [(24, 73, 0.2), (7, 7, 0.5), (6, 200, 0.01)])
def test_the_examples_that_decide_do_and_fewer_do_not(count, of, allowed):
    level = 0.0004
    part = Comparison("", count, of, allowed)
    assert level < tail(count, of, allowed) < 0.05 and part.verdict(level) == "undecided"
    size = round(part.deciding_factor(level) * of)
    assert tail(math.floor(size * (count / of)), size, allowed) < level
    fewer = math.floor(size / 1.05)
    assert tail(math.floor(fewer * (count / of)), fewer, allowed) >= level


def test_what_keeps_within_a_rule_is_never_decided_against():
    assert Comparison("", 20, 100, 0.2).deciding_factor(0.01) is None
    assert Comparison("", 0, 0, 0.2).deciding_factor(0.01) is None
    assert Comparison("", 20001, 100000, 0.2).deciding_factor(0.01) is None
