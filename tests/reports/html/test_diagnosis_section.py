"""The section on masked gradients: verdict first, a figure a check, files of any age and form."""

import copy
import math
import re

import pytest

from robustjax.diagnosis.findings import Comparison
from robustjax.reports.html.comparison import comparison
from robustjax.reports.html.diagnosis import diagnosis
from robustjax.reports.html.page import page_of_run, page_of_runs
from robustjax.runs.folder import RunFolder

LEVEL = 0.0004


def check(name, *comparisons, **more):
    parts = [
        {"statement": f"{name}: {count} of {of}", "count": count, "of": of, "allowed": allowed}
        for count, of, allowed in comparisons
    ]
    return {"name": name, "rule": f"{name} does.", "comparisons": parts, "evidence": {}, **more}


GOOD = check("steps", (0, 20, 0.5), (3, 9, 0.5), evidence={"pgd-1": 0.5, "mean_x": 0.25})
# A tail of 1.3 % and of less than a millionth; see the test below.
OPEN, BAD = check("convergence", (24, 73, 0.2)), check("black boxes", (21, 21, 0.5))
CURVES = {
    "steps": [0, 1, 5, 20],
    "accuracy": [0.9, 0.8, 0.5, 0.4],
    "loss_quantiles_10_50_90": [[0.1, 0.2, 0.3]] * 4,
    "epsilons": [0.05, 0.1, 1.0],
    "accuracy_at_epsilon": [0.6, 0.4, 0.0],
}


def content(*checks, **more):
    return {
        "level": LEVEL, "examples": 200, "clean_accuracy": 0.9, "checks": list(checks),
        "curves": CURVES, "attacks": {"norm": "linf", "epsilon": 0.1}, "seed": 17, **more,
    }  # fmt: skip


def page(of):
    return page_of_run(RunFolder("x", "x", {}, diagnosis=of))


@pytest.mark.parametrize(
    ("checks", "verdict", "headline"),
    [
        ([GOOD], "pass", "all 1 checks pass"),
        ([GOOD, OPEN], "undecided", "1 of 2 undecided: convergence"),
        (
            [GOOD, OPEN, BAD],
            "suspicious",
            "1 of 3 checks suspicious: black boxes; 1 of 3 undecided: convergence",
        ),
    ],
)
def test_the_verdict_stands_first_and_the_worst_check_before_the_others(checks, verdict, headline):
    assert LEVEL < Comparison("", 24, 73, 0.2).p_value < 0.02
    found = diagnosis(content(*checks))
    assert (found.verdict, found.headline) == (verdict, headline)
    order = ["suspicious", "undecided", "pass"]
    verdicts = [one.verdict for one in found.checks]
    assert verdicts == sorted(verdicts, key=order.index) and verdicts[0] == verdict
    text = page(content(*checks))
    assert text.index(f'class="verdict {verdict}"') < text.index('class="cards"')
    assert text.count('class="card ') == len(checks)
    assert ("examples decide it" in text) == (len(checks) > 1)


def test_a_file_that_knew_only_of_pass_is_shown_by_its_counts():
    """Of an earlier version: a third of what may be a fifth, p = 0.013 or so, was a pass."""
    older = content({**OPEN, "verdict": "pass"}, verdict="pass", suspicious=[])
    assert diagnosis(older).verdict == "undecided"
    recorded = content({**GOOD, "verdict": "suspicious"})
    assert diagnosis(recorded).verdict == "suspicious"


def test_each_check_has_a_figure_and_states_its_statistics():
    text = page(content(GOOD, OPEN))
    (card,) = re.findall(r'<div class="card undecided">.*?</details>', text, re.DOTALL)
    assert 'cx="32.88%"' in card and 'class="limit" x1="20.0%"' in card
    stated = ("24 of 73", "32.9 % (23.2 to 44.3)", "20 %", "binomial test", "convergence does.")
    assert all(text in card for text in stated)
    assert "50.0 %" in text and ">0.25<" in text


def test_curves_are_drawn_with_the_clean_accuracy_and_the_radius():
    found = diagnosis(content(GOOD))
    assert [chart.title for chart in found.plots] == [
        "More steps", "The loss on the way", "A larger epsilon",
    ]  # fmt: skip
    more_steps, _, larger = found.plots
    assert [level.name for level in more_steps.levels] == ["clean"]
    (radius,) = (level.place for level in larger.levels if level.upright)
    # Logarithmic above epsilon 0.1, from 0.05 to 1.
    assert radius == pytest.approx(100 * math.log(1.5) / math.log(10.5), abs=0.01)
    assert more_steps.lines[0].dots[0] == (0, 10) and more_steps.lines[0].dots[-1] == (100, 60)


@pytest.mark.parametrize(
    "change",
    [
        lambda of: of.update(level="low"),
        lambda of: of.update(examples=2.5),
        lambda of: of.update(checks=[]),
        lambda of: of["checks"][0].update(comparisons=None),
        lambda of: of["checks"][0]["comparisons"][0].update(count=21),
        lambda of: of["checks"][0]["comparisons"][0].update(allowed=0),
        lambda of: of["checks"][0]["comparisons"][0].update(of=1e12),
        lambda of: of["checks"][0].pop("name"),
    ],
)
def test_what_has_another_form_is_shown_as_it_stands(change):
    of = copy.deepcopy(content(GOOD))
    assert diagnosis(of) is not None
    change(of)
    assert diagnosis(of) is None
    assert "steps: 0 of 20" in page(of) or not of["checks"] or not of["checks"][0]["comparisons"]


@pytest.mark.parametrize(
    "curves", [None, {}, {**CURVES, "accuracy": [0.5]}, {**CURVES, "steps": ["a"] * 4}]
)
def test_curves_that_do_not_fit_are_left_out(curves):
    titles = [chart.title for chart in diagnosis(content(GOOD, curves=curves)).plots]
    assert "More steps" not in titles


def test_a_comparison_says_of_every_run_that_was_diagnosed_what_was_found():
    score = {"clean_accuracy": 0.9, "interval_95": [0.8, 0.95], "examples": 200}
    runs = [
        RunFolder(name, name, {}, evaluation=score, diagnosis=found)
        for name, found in (("a", content(GOOD)), ("b", content(BAD)), ("c", None), ("d", [1]))
    ]
    assert [(said.of, said.text) for said in comparison(runs)["diagnosed"]] == [
        ("a", "pass, all 1 checks pass"),
        ("b", "suspicious, 1 of 1 checks suspicious: black boxes"),
    ]
    assert "suspicious, 1 of 1 checks suspicious" in page_of_runs(runs)
