"""Runs side by side: what was not measured alike shares no column; verdicts are held in pairs."""

import math

import numpy as np
import pytest

from robustjax.evaluation import accumulated
from robustjax.evaluation.one_attack import AttackScore
from robustjax.reports import markdown
from robustjax.reports.compared_columns import columns_of, leads_of
from robustjax.reports.compared_verdicts import paired_runs, verdicts_behind
from robustjax.reports.html.comparison import comparison
from robustjax.runs.evaluations import Record
from robustjax.runs.folder import RunFolder

EPSILON = 0.1
CHECKPOINT = {"digest": "b", "kind": "best", "step": 8, "moving_average": False}


def from_place(place, total=100):
    """Right from one example on."""
    return np.arange(total) >= place


CLEAN = from_place(5)


def run(name, attacks, data="t", clean=CLEAN, seed=0, flags=(), digest=None, **settings):
    """A run as it is read, with its records; attacks: name -> verdicts."""
    scores = {"clean": AttackScore(clean, {})}
    for attack, correct in attacks.items():
        scores[attack] = AttackScore(correct, {"norm": "linf", "epsilon": EPSILON, **settings})
    facts = {
        "digest": digest or data,
        "dataset": f"{data} test",
        "available_examples": 100,
        "own": True,
    }
    records = accumulated.records_of(
        scores, data=facts, checkpoint=CHECKPOINT, about={"seed": seed}
    )
    records = [Record.from_json(record.to_json()) for record in records]
    summary = accumulated.summary_of_run(records, "linf", EPSILON)
    return RunFolder(name, name, dict(flags), evaluation=summary, records=records)


PGD, CW = from_place(40), from_place(50)


def test_what_was_measured_alike_shares_a_column_whatever_the_number_of_examples():
    few = run("b", {"pgd-20": from_place(4, 10)})
    columns = columns_of([run("a", {"pgd-20": PGD}), few])
    assert list(columns)[:2] == ["clean", "pgd-20"]
    assert None not in columns["pgd-20"]


def test_other_settings_have_columns_of_their_own_whose_heads_say_which():
    runs = [
        run("a", {"pgd-20": PGD}, step_size=0.01),
        run("b", {"pgd-20": CW}, step_size=0.02),
        run("c", {"pgd-20": CW}, step_size=0.01),
    ]
    columns = columns_of(runs)
    heads = ["clean", "pgd-20 (step size 0.01)", "pgd-20 (step size 0.02)"]
    assert list(columns)[:3] == heads
    assert [score is not None for score in columns[heads[1]]] == [True, False, True]
    assert [score is not None for score in columns[heads[2]]] == [False, True, False]
    assert not leads_of(columns)[heads[2]].leaders
    assert "worst case (attacks pgd-20 (step size 0.02))" in columns
    assert [head for head, *_ in paired_runs(runs, columns).rows] == [
        "clean", "clean", heads[1], f"worst case (attacks {heads[1]})",
    ]  # fmt: skip


def test_a_setting_that_one_has_and_the_other_has_not_sets_them_apart():
    columns = columns_of([run("a", {"fgsm": PGD}), run("b", {"fgsm": PGD}, start="uniform")])
    assert {"fgsm (start not given)", "fgsm (start uniform)"} < set(columns)


def test_other_data_share_no_column_and_no_test():
    runs = [run("a", {"pgd-20": PGD}), run("b", {"pgd-20": CW}, data="o")]
    columns = columns_of(runs)
    assert list(columns)[:4] == [
        "clean (data t test)", "clean (data o test)", "pgd-20 (data t test)",
        "pgd-20 (data o test)",
    ]  # fmt: skip
    assert paired_runs(runs, columns) is None


@pytest.mark.parametrize(
    ("first", "second", "heads"),
    [
        ({"classes": "3,5"}, {}, ("classes 3,5", "classes all")),
        ({"image_size": "64"}, {}, ("image size 64", "image size 0")),
    ],
)
def test_another_task_on_data_of_one_name_shares_no_column(first, second, heads):
    runs = [run("a", {"pgd-20": PGD}, flags=first), run("b", {"pgd-20": CW}, flags=second)]
    columns = columns_of(runs)
    assert list(columns)[:2] == [f"clean ({head})" for head in heads]
    assert not any(found.leaders for found in leads_of(columns).values())


def test_folders_of_one_name_are_told_apart_by_their_images_wherever_they_lie():
    flags = [{"dataset": "folder", "data_dir": place} for place in ("/cats", "/moved", "/dogs")]
    runs = [
        run(place["data_dir"], {"pgd-20": PGD}, flags=place, digest=digest)
        for place, digest in zip(flags, ("c" * 64, "c" * 64, "d" * 64), strict=True)
    ]
    columns = columns_of(runs)
    assert list(columns)[:2] == [f"clean (images {letter * 8})" for letter in "cd"]
    assert [score is not None for score in columns["clean (images cccccccc)"]] == [1, 1, 0]


def test_where_prepared_data_lie_sets_nothing_apart():
    flags = [{"dataset": "cifar10", "data_dir": place} for place in ("/a", "/b")]
    runs = [run(str(place), {"pgd-20": PGD}, flags=place) for place in flags]
    assert list(columns_of(runs))[:2] == ["clean", "pgd-20"]


def test_worst_cases_over_other_attacks_are_other_columns():
    runs = [run("a", {"pgd-20": PGD, "cw-30": CW}), run("b", {"pgd-20": PGD})]
    columns = columns_of(runs)
    assert "worst case (attacks pgd-20, cw-30)" in columns
    assert "worst case (attacks pgd-20)" in columns and "worst case" not in columns


def test_runs_are_tested_in_pairs_on_the_images_that_both_had():
    runs = [
        run("a", {"pgd-20": PGD}),
        run("b", {"pgd-20": np.roll(PGD, -30)}),
        run("c", {"pgd-20": from_place(42, 50)}, clean=from_place(5, 50)),
    ]
    grid = paired_runs(runs, columns_of(runs))
    found = {(row[0], row[2]): row for row in grid.rows}
    assert grid.rows[0][:3] == ["clean", "a", "b"]
    # b: right from 10 to 69; a: from 40 to 99.
    tail = 2 * sum(math.comb(60, k) for k in range(31)) / 2**60
    assert found["pgd-20", "b"][3:] == ["100", "30", "30", f"{min(1, tail):.4f}"]
    # c: right from 42 to 49 of 50; a: from 40 on.
    assert found["pgd-20", "c"][3:] == ["50", "2", "0", "0.5000"]
    assert found["worst case", "c"][3:6] == ["50", "2", "0"]
    assert "| pgd-20 | a | c | 50 | 2 | 0 | 0.5000 |" in markdown.of_runs(runs, "all")
    assert comparison(runs)["paired"].rows == grid.rows


@pytest.mark.parametrize(
    "change",
    [
        {"examples": 99},
        {"checkpoint": {"kind": "best", "step": 9}},
        {"dataset": "another"},
        {"seed": 1},
        {"attacks": {"pgd-20": {"robust_accuracy": 0.6, "norm": "linf", "epsilon": 0.2}}},
        {"attacks": {"pgd-20": {"robust_accuracy": 0.59, "norm": "linf", "epsilon": EPSILON}}},
    ],
    ids=["examples", "step", "data", "seed", "settings", "accuracy"],
)
def test_the_verdicts_of_a_score_are_those_of_its_record_and_of_no_other(change):
    one = run("a", {"pgd-20": PGD})
    assert set(verdicts_behind(one)) == {"clean", "pgd-20", "worst case"}
    np.testing.assert_array_equal(verdicts_behind(one)["worst case"][1], PGD)
    other = RunFolder("a", "a", {}, evaluation={**one.evaluation, **change}, records=one.records)
    assert "pgd-20" not in verdicts_behind(other) and "worst case" not in verdicts_behind(other)
