"""Curves over the radius: nested, of records that belong together, and shown in all reports."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax import reports
from robustjax.evaluation import accumulated
from robustjax.evaluation.one_attack import AttackScore
from robustjax.evaluation.radius_curves import radius_curves
from robustjax.files import Path
from robustjax.reports import markdown
from robustjax.reports.html.accuracy import accuracy
from robustjax.reports.recorded_curves import recorded_curves

TEST = {"digest": "t", "dataset": "digits test", "available_examples": 100, "own": True}
BEST = {"digest": "b", "kind": "best", "step": 8, "moving_average": False}
ASKED = {"step_size": None, "start": "uniform", "success": "last"}
CLEAN = np.array([True] * 6 + [False] * 2)


def records(correct, epsilon, clean=CLEAN, attack="pgd-4", norm="linf", asked=ASKED, seed=0):
    settings = {"norm": norm, "epsilon": epsilon, "steps": 4, "step_size": epsilon / 2}
    scores = {"clean": AttackScore(clean, {}), attack: AttackScore(np.array(correct), settings)}
    about = {"seed": seed, "asked": asked}
    return accumulated.records_of(scores, data=TEST, checkpoint=BEST, about=about)


def curves(*evaluations):
    return radius_curves([record for found in evaluations for record in found])


SMALL = records([True, True, False, True, True, True, False, False], 0.1)
# The third image is right again at the larger radius: the attack there was unlucky.
LARGE = records([True, False, True, True, False, False, False, False], 0.2)


@pytest.mark.parametrize("order", [1, -1])
def test_what_fell_at_a_smaller_radius_has_fallen_at_a_larger_one(order):
    (curve,) = curves(*[SMALL, LARGE][::order])
    assert curve.epsilons == (0.0, 0.1, 0.2) and curve.attack == "pgd-4" and curve.norm == "linf"
    np.testing.assert_array_equal(
        curve.withstood.astype(int),
        [[1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(curve.fallen_at, [np.inf, 0.2, 0.1, np.inf, 0.2, 0.2, 0, 0])
    assert curve.to_json()["robust_accuracy"] == [6 / 8, 5 / 8, 2 / 8]


@given(
    st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_no_curve_rises(verdicts, random):
    radii = [0.1 * (number + 1) for number in range(len(verdicts))]
    random.shuffle(radii)
    (curve,) = curves(*(records(v, radius) for v, radius in zip(verdicts, radii, strict=True)))
    assert list(curve.epsilons) == sorted(curve.epsilons)
    found = curve.to_json()["robust_accuracy"]
    assert found == sorted(found, reverse=True) and found[0] == CLEAN.mean()
    for number, epsilon in enumerate(curve.epsilons):
        np.testing.assert_array_equal(curve.withstood[number], curve.fallen_at > epsilon)


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": "fgsm"},
        {"norm": "l2"},
        {"seed": 1},
        {"asked": {**ASKED, "step_size": 0.01}},
        {"asked": {**ASKED, "start": "clean"}},
        {"asked": None},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_was_not_asked_for_alike_makes_no_curve(changes):
    assert curves(SMALL, records([True] * 8, 0.2, **changes)) == []


def test_other_numbers_of_examples_are_other_curves():
    few = records([False] * 4, 0.2, clean=CLEAN[:4])
    assert curves(SMALL, few) == []
    (curve,) = curves(SMALL, LARGE, few)
    assert curve.withstood.shape == (3, 8)
    # Of the others it is not known whether they were right to begin with.
    (clean, _), (_, small), (_, large) = few, SMALL, LARGE
    assert radius_curves([clean, small, large]) == []


def test_the_newest_counts_and_one_radius_is_no_curve():
    assert curves(SMALL) == []
    (curve,) = curves(SMALL, LARGE, records([False] * 8, 0.2 * (1 + 1e-9)))
    assert not curve.withstood[2].any() and len(curve.epsilons) == 3


@pytest.fixture
def summary(tmp_path):
    for found in (SMALL, LARGE, records([True] * 8, 0.1, seed=1), records([True] * 8, 0.2, seed=1)):
        content = accumulated.add_to_run(Path(tmp_path), found, "linf", 0.2)
        reports.write_report(content, Path(tmp_path))
    return json.loads((tmp_path / "evaluation.json").read_text())


def test_they_stand_in_the_summary_and_in_every_report(summary, tmp_path):
    first, second = recorded_curves(summary)
    assert [first.name, second.name] == ["pgd-4 (seed=0)", "pgd-4 (seed=1)"]
    assert {radius: one.accuracy for radius, one in first.scores.items()} == {
        0.0: 0.75, 0.1: 0.625, 0.2: 0.25,
    }  # fmt: skip
    assert (tmp_path / "figures" / "epsilon_curves.png").stat().st_size > 5_000
    written = (tmp_path / "evaluation.md").read_text()
    assert "| 0.1 | 62.50 % (" in written
    assert "pgd-4 (seed=0) at 0.2   25.00 %" in " ".join(reports.to_table(summary).split("\n"))
    assert any(line.startswith("| 0.2 | 25.00 (") for line in markdown.accuracies(summary))
    page = accuracy(summary)["curves"]
    assert [row[0] for row in page["table"].rows] == ["0", "0.1", "0.2"]
    assert page["table"].rows[2][1].text == "25.00"
    assert "epsilon (linf)" in page["chart"].description
    # A run of no curve shows none.
    assert accuracy({**summary, "curves": []})["curves"] is None


@pytest.mark.parametrize(
    "damage",
    [
        5,
        [5],
        [{"attack": "a", "epsilons": [0.1], "robust_accuracy": [2], "interval_95": [[0, 1]]}],
        [{"attack": "a", "epsilons": [0.1], "robust_accuracy": [1, 1], "interval_95": [[0, 1]]}],
        [{"attack": "a", "epsilons": ["x"], "robust_accuracy": [1], "interval_95": [[0, 1]]}],
        [{"attack": "a", "epsilons": [], "robust_accuracy": [], "interval_95": []}],
    ],
)
def test_curves_that_make_no_sense_are_left_out(summary, damage):
    assert recorded_curves({**summary, "curves": damage}) == []
