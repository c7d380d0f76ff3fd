"""What verdicts say: held against sums by hand and against the binomial coefficients themselves."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustjax.evaluation.verdicts import against_strongest, paired, per_class, verdicts_as_csv

bools = st.lists(st.booleans(), max_size=40).map(lambda values: np.array(values, bool))


@given(bools, bools)
def test_the_paired_test_is_mcnemars_exact_one(first, second):
    found = paired(first, second)
    both = list(zip(first, second, strict=False))
    assert found.examples == len(both)
    b, c = both.count((True, False)), both.count((False, True))
    assert (found.first_alone, found.second_alone) == (b, c)
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert paired(second, first)[1:] == (c, b, pytest.approx(found.p_value))


def test_a_published_example():
    """Agresti, Categorical Data Analysis: of 1,600 people 150 and 86 changed their minds."""
    first = np.array([True] * 150 + [False] * 86 + [True] * 794 + [False] * 570)
    second = np.array([False] * 150 + [True] * 86 + [True] * 794 + [False] * 570)
    found = paired(first, second)
    assert found[:3] == (1600, 150, 86) and found.p_value == pytest.approx(3.7e-5, rel=0.05)


def test_attacks_are_held_beside_the_strongest_on_what_they_share():
    a, b = np.array([1, 0, 1, 0, 1, 1], bool), np.array([0, 1, 0, 0], bool)
    (row,) = against_strongest({"weak": a, "strong": b})
    assert row == {
        "attack": "weak", "strongest": "strong", "examples": 4, "broken_by_attack_alone": 1,
        "broken_by_strongest_alone": 2, "p_value": 1.0,
    }  # fmt: skip
    assert against_strongest({"weak": a}) == against_strongest({}) == []
    # What the other one was not tried on does not count, however much there withstood it.
    longer = np.concatenate([b, np.ones(20, bool)])
    (row,) = against_strongest({"weak": a[:4], "strong": longer})
    assert (row["strongest"], row["examples"]) == ("strong", 4)


def test_each_class_by_itself_and_together_the_whole():
    rng = np.random.default_rng(0)
    labels = np.array([0, 2, 2, 0, 2, 5, 5, 0])
    clean, pgd, cw = rng.uniform(size=(3, 8)) < 0.6
    rows = per_class(clean, {"pgd": pgd, "cw": cw}, labels, ["cat", "dog", "fox"])
    assert [row["class"] for row in rows] == ["cat", "fox", "5"]
    assert [row["examples"] for row in rows] == [3, 3, 2]
    for row, number in zip(rows, (0, 2, 5), strict=True):
        mine = [place for place, label in enumerate(labels) if label == number]
        assert row["clean_accuracy"] == pytest.approx(sum(clean[i] for i in mine) / len(mine))
        assert row["robust_accuracy"]["cw"] == pytest.approx(sum(cw[i] for i in mine) / len(mine))
        worst = sum(clean[i] and pgd[i] and cw[i] for i in mine) / len(mine)
        assert row["worst_case_robust_accuracy"] == pytest.approx(worst)
    whole = sum(row["examples"] * row["clean_accuracy"] for row in rows) / len(labels)
    assert whole == pytest.approx(clean.mean())
    assert "robust_accuracy" not in per_class(clean, {}, labels)[0]
    with pytest.raises(ValueError, match="labels"):
        per_class(clean, {"pgd": pgd[:4]}, labels)


def test_the_list_of_images_that_fall():
    text = verdicts_as_csv(
        {"clean": np.array([1, 1, 0], bool), 'pgd-4(a=1,b="x")': np.array([1, 0], bool)},
        np.array([7, 2, 3]),
        {"fgsm": np.array([np.inf, 8 / 255, 0.0])},
    )
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["example", "label", "clean", 'pgd-4(a=1,b="x")', "fgsm falls at"]
    assert rows == [
        ["0", "7", "1", "1", ""],
        ["1", "2", "1", "0", "0.0313725"],
        ["2", "3", "0", "", "0"],
    ]
    assert verdicts_as_csv({"clean": np.zeros(2, bool)}) == "example,clean\n0,0\n1,0\n"
