"""What a sweep gathers from its runs, and the figures of it."""

import csv
import json

import matplotlib.image
import numpy as np
import pytest

from robustjax.reports import sweep
from robustjax.reports.figures import sweep as sweep_figures
from robustjax.reports.sweep import SweepRun, Wanted
from robustjax.runs.evaluations import Record
from robustjax.runs.log import KEYS

WANTED = Wanted(["clean", "fgsm", "pgd-2"], 40, "best", 0.1, 0.01, 3)


def write_run(folder, clean=0.9, robust=0.5, attacks=("fgsm", "pgd-2"), backward=(1.0, 3.0)):
    """A run's folder, evaluated as WANTED says."""
    folder.mkdir(parents=True)
    scores = {
        name: {
            "robust_accuracy": robust,
            "interval_95": [0, 1],
            "norm": "linf",
            "epsilon": 0.1,
            "start": "uniform",
            "success": "last",
            # FGSM has no restarts, and its step is epsilon.
            **({"step_size": 0.1} if name == "fgsm" else {"step_size": 0.01, "restarts": 1}),
        }
        for name in attacks
    }
    found = {
        "clean_accuracy": clean,
        "attacks": scores,
        "worst_case_robust_accuracy": robust - 0.1,
        "examples": 40,
        "available_examples": 60,
        "trained_epochs": 3,
        "checkpoint": {"kind": "best"},
        "versions": {"jax": "0"},
    }
    (folder / "evaluation.json").write_text(json.dumps(found))
    rows = [
        {
            **dict.fromkeys(KEYS, 0.5),
            "epoch": epoch,
            "step": 4 * epoch,
            "mean_backward_passes": passes,
            "elapsed_seconds": 10.0 * epoch,
        }
        for epoch, passes in enumerate(backward, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"attacks": ["clean"]}, True),
        ({"attacks": ["cw-3"]}, False),
        ({"examples": 41}, False),
        ({"examples": 0}, False),
        ({"checkpoint": "latest"}, False),
        ({"epsilon": 0.2}, False),
        ({"step_size": 0.02}, False),
        ({"step_size": 0.02, "attacks": ["fgsm"]}, True),
        ({"epochs": 4}, False),
    ],
)
def test_an_evaluation_counts_only_if_it_is_the_one_asked_for(tmp_path, changed, expected):
    run = SweepRun({}, 0, write_run(tmp_path / "run"))
    assert sweep.is_evaluated(run, WANTED._replace(**changed)) is expected


def test_a_protocol_wants_its_own_radius_steps_and_examples():
    wanted = Wanted([], 0, "latest", 0.1, None, 3, "lrm", "cifar10")
    selection = wanted.selection("pgd-20")
    assert selection.settings == {
        "epsilon": 0.03, "step_size": 0.0078, "start": "uniform", "success": "last"
    }  # fmt: skip
    assert wanted.selection("clean").settings == {}
    assert wanted.selection("spsa").examples == 1000
    assert wanted._replace(examples=50).selection("spsa").examples == 50


def test_other_images_balls_and_starts_have_no_part_in_a_sweep():
    wanted = Wanted(["clean", "pgd-2"], 0, "best", 0.1, None, 3, norm="linf")

    def record(attack, accuracy, own=True, seed=0, **changed):
        settings = {"norm": "linf", "epsilon": 0.1, "step_size": 0.1, "start": "uniform"}
        settings = {} if attack == "clean" else {**settings, "success": "last", **changed}
        data = {"digest": "own" if own else "other", "available_examples": 40, "own": own}
        about = {"seed": seed, "trained_epochs": 3}
        return Record(
            attack, settings, data, {"kind": "best"}, 40, accuracy, (0.0, 1.0), about=about
        )  # fmt: skip

    right = [record("clean", 0.75), record("pgd-2", 0.5)]
    others = [
        record("clean", 0.25, own=False),
        record("pgd-2", 0.125, own=False),
        record("pgd-2", 0.25, norm="l2"),
        record("pgd-2", 0.25, start="clean"),
        record("pgd-2", 0.25, success="any"),
        record("pgd-2", 0.25, step_size=0.05),
        record("pgd-2", 0.25, seed=1),
    ]
    found = sweep.chosen_records([*right, *others], wanted)
    assert {name: one.accuracy for name, one in found.items()} == {"clean": 0.75, "pgd-2": 0.5}
    assert sweep.chosen_records(others, wanted) is None
    assert sweep.chosen_records([*right, *others[:2]], None)["clean"].accuracy == 0.75


def test_more_examples_than_there_are_is_all_of_them(tmp_path):
    run = SweepRun({}, 0, write_run(tmp_path / "run"))
    path = run.workdir / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "examples": 60}))
    assert sweep.is_evaluated(run, WANTED._replace(examples=0))
    assert sweep.is_evaluated(run, WANTED._replace(examples=1000))
    assert not sweep.is_evaluated(run, WANTED)
    assert not sweep.is_evaluated(run._replace(workdir=tmp_path), WANTED)


@pytest.mark.parametrize("centre", ["median", "mean"])
def test_settings_are_gathered_over_their_seeds(tmp_path, centre):
    clean = {"1": [0.9, 0.7, 0.1], "6": [0.4, 0.6, 0.2]}
    runs = [
        SweepRun({"beta": beta}, seed, write_run(tmp_path / f"{beta}-{seed}", value, value / 2))
        for beta, values in clean.items()
        for seed, value in enumerate(values)
    ]
    runs.append(SweepRun({"beta": "6"}, 3, tmp_path / "never"))
    runs[2] = runs[2]._replace(error="error: it diverged")
    found = sweep.gather(runs, centre)
    clean["1"].pop()
    for entry, values in zip(found, clean.values(), strict=True):
        measure = {"median": np.median, "mean": np.mean}[centre]
        assert entry["accuracy"]["clean"]["centre"] == pytest.approx(measure(values))
        deviation = pytest.approx(np.std(values, ddof=1))
        assert entry["accuracy"]["clean"]["deviation"] == deviation
        worst = [value / 2 - 0.1 for value in values]
        assert entry["accuracy"]["worst case"]["centre"] == pytest.approx(measure(worst))
        assert entry["mean_backward_passes"] == 2.0 and entry["training_seconds"] == 20.0
    assert [entry["seeds"] for entry in found] == [[0, 1], [0, 1, 2]]
    assert found[0]["failed"] == {"1-2": "error: it diverged"} and found[1]["failed"] == {}
    table = sweep.to_table(found, centre)
    assert "| beta=1 |" in table and "| 2, 1 failed | 2.00 | 20 |" in table


def test_the_worst_case_of_different_attacks_is_not_compared(tmp_path):
    runs = [
        SweepRun({"beta": "1"}, 0, write_run(tmp_path / "a")),
        SweepRun({"beta": "2"}, 0, write_run(tmp_path / "b", attacks=("pgd-2",))),
    ]
    first, second = sweep.gather(runs)
    assert list(first["accuracy"]) == ["clean", "fgsm", "pgd-2"]
    assert list(second["accuracy"]) == ["clean", "pgd-2"]
    table = sweep.to_table([first, second])
    assert "±" not in table.split("| setting")[1]  # one seed has no deviation


def test_names_call_files_by_their_last_part():
    assert sweep.label("flagfile", "launch/mnist/trades.flags") == "trades"
    assert sweep.label("init_from", "runs/natural") == "init_from=natural"
    assert sweep.label("epsilon", "8/255") == "epsilon=8/255"


def entries(*values, attacks=("clean", "pgd-2")):
    return [
        {
            "name": str(chosen),
            "values": chosen,
            "accuracy": {
                attack: {"centre": 0.5 + 0.01 * place, "deviation": 0.01} for attack in attacks
            },
        }
        for place, chosen in enumerate(values)
    ]


def drawn(path):
    with open(path.with_suffix(".csv")) as file:
        return list(csv.DictReader(file))


def test_the_axis_is_the_first_swept_flag_with_numbers():
    both = [{"model": m, "tau": t} for m in ("a", "b") for t in ("0", "1")]
    assert sweep_figures.swept_axis(entries(*both)) == "tau"
    linked = [{"epsilon": "8/255", "step_size": "0.1"}, {"epsilon": "0.1", "step_size": "0.2"}]
    assert sweep_figures.swept_axis(entries(*linked)) == "epsilon"
    assert sweep_figures.swept_axis(entries({"tau": "0,1@50"}, {"tau": "1"})) is None
    assert sweep_figures.swept_axis(entries({"beta": "1"})) is None


def test_what_changes_with_the_axis_makes_no_line_and_anything_else_does(tmp_path):
    chosen = [
        {"model": model, "init_from": f"runs/{model}", "epsilon": radius, "step_size": step}
        for model in ("small", "large")
        for radius, step in (("0.1", "0.01"), ("0.2", "0.02"))
    ]
    path = tmp_path / "figure.png"
    sweep_figures.accuracy_against_value({"fat": entries(*chosen, attacks=("clean",))}, path)
    rows = [(row["line"], row["epsilon"], float(row["accuracy"])) for row in drawn(path)]
    assert rows == [
        ("model=small", "0.1", 50.0),
        ("model=small", "0.2", pytest.approx(51.0)),
        ("model=large", "0.1", pytest.approx(52.0)),
        ("model=large", "0.2", pytest.approx(53.0)),
    ]
    assert matplotlib.image.imread(path)[..., :3].std() > 0.01


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (("1", "10", "100"), "linear"),
        (("1", "10", "101"), "log"),
        (("0", "1", "101"), "symlog"),
        (("0", "0.5", "0.9"), "linear"),
    ],
)
def test_the_axis_is_logarithmic_beyond_two_decades(tmp_path, monkeypatch, values, scale):
    seen = []
    monkeypatch.setattr(sweep_figures, "save", lambda figure, path: seen.append(figure))
    settings = entries(*({"beta": value} for value in values))
    sweep_figures.accuracy_against_value({"s": settings}, tmp_path / "figure.png")
    assert {panel.get_xscale() for panel in seen[0].axes} == {scale}


def test_settings_without_numbers_are_bars(tmp_path):
    path = tmp_path / "bars.png"
    settings = entries({"method": "mart"}, {"method": "nap"})
    sweep_figures.settings_side_by_side(settings, path)
    assert [(row["attack"], float(row["accuracy"])) for row in drawn(path)] == [
        ("clean", 50.0), ("clean", 51.0), ("pgd-2", 50.0), ("pgd-2", 51.0),
    ]  # fmt: skip
    assert matplotlib.image.imread(path)[..., :3].std() > 0.01


def test_what_an_ensemble_measured_is_no_setting_of_it_and_its_warnings_are_told(tmp_path):
    runs = []
    for seed, seconds in enumerate((1.5, 2.5)):
        folder = write_run(tmp_path / f"a-seed={seed}", attacks=["autoattack"])
        found = json.loads((folder / "evaluation.json").read_text())
        found["attacks"]["autoattack"] = {
            "robust_accuracy": 0.4, "interval_95": [0, 1], "version": "standard",
            "after_each": {"clean": 0.9}, "seconds": {"apgd-ce": seconds},
            "warnings": ["few classes"] if seed else [],
        }  # fmt: skip
        (folder / "evaluation.json").write_text(json.dumps(found))
        runs.append(SweepRun({"beta": "1"}, seed, folder))
    text = sweep.to_markdown(sweep.gather(runs, "mean"), {"center": "mean", "command": "c"})
    assert "* autoattack: version standard\n" in text and "after_each" not in text
    assert "* warnings: a-seed=1: few classes\n" in text and "a-seed=0:" not in text
