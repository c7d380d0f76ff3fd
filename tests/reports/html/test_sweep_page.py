"""The page of a sweep, in the design of the others."""

import json
import re

import pytest

from robustjax.reports.html.page import page_of_sweep
from robustjax.reports.html.sweep import sweep

ABOUT = {"command": "python launch/sweep.py '--grid=beta=1,<6>'", "center": "median"}


def entry(values, seeds=(0, 1), failed=None, **accuracies):
    """A setting as `reports.sweep.gather` gives it; accuracies: (centre, deviation)."""
    runs = [
        {"folder": f"run-{seed}", "examples": 40, "attacks": {"pgd-2": {"steps": 2}},
         "versions": {"jax": "0.10"}}
        for seed in seeds
    ]  # fmt: skip
    return {
        "name": " ".join(f"{name}={value}" for name, value in values.items()),
        "values": values, "seeds": list(seeds), "failed": failed or {}, "runs": runs,
        "accuracy": {
            name.replace("_", "-"): {"centre": centre, "deviation": deviation}
            for name, (centre, deviation) in accuracies.items()
        },
        "mean_backward_passes": 2.5, "training_seconds": 61.0,
    }  # fmt: skip


NUMBERS = [
    entry({"beta": "1"}, clean=(0.9, 0.02), pgd_2=(0.5, 0.04)),
    entry({"beta": "6"}, clean=(0.8, 0.01), pgd_2=(0.6, 0.02)),
    entry({"beta": "3"}, clean=(0.85, 0.03), pgd_2=(0.99, 0.04)),
]


def test_every_setting_is_a_row_and_a_line_with_its_deviation():
    page = page_of_sweep("betas", NUMBERS, {**ABOUT, "flags": ["--method=trades"]})
    assert "<h1>Sweep: betas</h1>" in page and "&lt;6&gt;" in page and "--method=trades" in page
    # In the table, beside its line, and as the line's title.
    assert page.count("90.00 ± 2.00") == 3 and '<td class="number">2.50</td>' in page
    assert 'cx="90.0%"' in page and 'x1="88.0%" x2="92.0%"' in page
    # No further than 100 %.
    assert 'x1="95.0%" x2="100%"' in page.replace('"100.0%"', '"100%"')
    assert "examples" in page and "jax 0.10" in page
    assert not re.search("<script|<img|http:|https:", page)


def test_a_swept_number_has_a_chart_an_attack_in_the_order_of_the_number():
    plots = sweep(NUMBERS, ABOUT)["plots"]
    assert [chart.title for chart in plots] == ["clean", "pgd-2"]
    (line,) = plots[0].lines
    assert [x for x, _ in line.dots] == [0, 40, 100] and line.band
    assert "from 90 at 1 to 80 at 6" in plots[0].description


@pytest.mark.parametrize(
    ("values", "place"), [(("1", "10", "100"), 9.09), (("0.001", "0.1", "10"), 50.0)]
)
def test_more_than_two_decades_are_logarithmic(values, place):
    settings = [entry({"beta": value}, clean=(0.5, 0.1)) for value in values]
    (chart,) = sweep(settings, ABOUT)["plots"]
    assert chart.lines[0].dots[1][0] == pytest.approx(place, abs=0.5)


def test_names_have_no_chart_and_one_seed_no_deviation_and_failures_are_named():
    settings = [
        entry({"flagfile": "a.flags"}, seeds=(0,), clean=(0.9, 0.0)),
        entry({"flagfile": "b.flags"}, seeds=(), failed={"b-seed=0": "no <memory>"}),
    ]
    found = sweep(json.loads(json.dumps(settings)), ABOUT)
    assert found["plots"] == [] and found["tiles"][1] == ("runs that are done", "1", "1 failed")
    ((_, (track,)),) = found["chart"].groups
    assert track.interval is None and track.value == "90.00 %"
    page = page_of_sweep("s", settings, {**ABOUT, "flags": 3})
    assert "b-seed=0: no &lt;memory&gt;" in page and "0, 1 failed" in page


def test_a_sweep_of_which_nothing_is_done_yet_is_a_page():
    assert "beta=1" in page_of_sweep("s", [entry({"beta": "1"}, seeds=())], ABOUT)
    assert page_of_sweep("s", [], ABOUT)
