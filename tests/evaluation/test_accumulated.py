"""evaluation.json sums up all evaluations of a run, and mixes no settings."""

import json

import numpy as np
import pytest

from robustjax import reports
from robustjax.data import Dataset
from robustjax.evaluation import accumulated
from robustjax.evaluation.one_attack import AttackScore
from robustjax.files import Path
from robustjax.reports.html.accuracy import accuracy
from robustjax.reports.recorded_scores import (
    about,
    recorded_commands,
    recorded_others,
    recorded_scores,
)
from robustjax.reports.recorded_verdicts import recorded_grids
from robustjax.runs.evaluations import Evaluations

EPSILON = 0.1
TEST = {"digest": "t", "dataset": "digits test", "available_examples": 100, "own": True}
OTHER = {**TEST, "digest": "o", "own": False}
BEST = {"digest": "b", "kind": "best", "step": 8, "moving_average": False}


def verdicts(right, total):
    return np.arange(total) < right


def pgd(right, total, **changes):
    settings = {"norm": "linf", "epsilon": EPSILON, "steps": 20, "step_size": 0.01}
    return AttackScore(verdicts(right, total), {**settings, **changes})


def records(scores, data=TEST, checkpoint=BEST, **about):
    clean = AttackScore(verdicts(90, len(next(iter(scores.values())).correct)), {})
    about = {"seed": 0, "batch_size": 50, "trained_epochs": 3, **about}
    found = {"clean": clean, **scores}
    return accumulated.records_of(found, data=data, checkpoint=checkpoint, about=about)


def summed_up(folder, *evaluations):
    for evaluation in evaluations:
        summary = accumulated.add_to_run(Path(folder), evaluation, "linf", EPSILON)
        reports.write_report(summary, Path(folder))
    return json.loads((folder / "evaluation.json").read_text())


def accuracies(summary):
    return {name: entry["robust_accuracy"] for name, entry in summary["attacks"].items()}


def test_a_second_evaluation_adds_to_the_first(tmp_path):
    found = summed_up(
        tmp_path, records({"pgd-20": pgd(50, 100)}), records({"fgsm": pgd(60, 100, steps=1)})
    )
    assert accuracies(found) == {"pgd-20": 0.5, "fgsm": 0.6}
    assert found["worst_case_robust_accuracy"] == 0.5
    assert len(Evaluations(Path(tmp_path)).records()) == 4
    assert "| fgsm | 60.00 % |" in (tmp_path / "evaluation.md").read_text()


def test_the_worst_case_is_over_the_images_and_not_over_the_accuracies(tmp_path):
    fgsm = AttackScore(np.arange(100) >= 30, {"norm": "linf", "epsilon": EPSILON})
    found = summed_up(tmp_path, records({"pgd-20": pgd(50, 100)}), records({"fgsm": fgsm}))
    assert found["worst_case_robust_accuracy"] == 0.2


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_examples_win_whichever_came_first(tmp_path, order):
    evaluations = [records({"pgd-20": pgd(50, 100)}), records({"pgd-20": pgd(9, 10)})]
    found = summed_up(tmp_path, *evaluations[::order])
    assert accuracies(found) == {"pgd-20": 0.5} and found["examples"] == 100


def test_of_equally_many_examples_the_newest_wins(tmp_path):
    found = summed_up(
        tmp_path, records({"pgd-20": pgd(50, 100)}), records({"pgd-20": pgd(51, 100)})
    )
    assert accuracies(found) == {"pgd-20": 0.51}


def test_an_attack_with_another_seed_is_another_figure(tmp_path):
    found = summed_up(
        tmp_path, records({"pgd-20": pgd(50, 100)}), records({"pgd-20": pgd(51, 100)}, seed=1)
    )
    assert accuracies(found) == {"pgd-20(seed=0)": 0.5, "pgd-20": 0.51} and found["seed"] == 1
    assert found["attacks"]["pgd-20(seed=0)"]["seed"] == 0


def test_attacks_of_several_protocols_are_of_none_together(tmp_path):
    first = records({"pgd-20": pgd(50, 100)}, protocol="mart")
    assert summed_up(tmp_path, first)["protocol"] == "mart"
    second = records({"fgsm": pgd(60, 100, steps=1)}, protocol="trades")
    found = summed_up(tmp_path, second)
    said = {name: entry["protocol"] for name, entry in found["attacks"].items()}
    assert "protocol" not in found and said == {"pgd-20": "mart", "fgsm": "trades"}


def test_one_attack_with_other_settings_is_another_figure(tmp_path):
    found = summed_up(
        tmp_path,
        records({"pgd-20": pgd(70, 100, step_size=0.003)}),
        records({"pgd-20": pgd(50, 100)}),
    )
    assert accuracies(found) == {"pgd-20(step_size=0.003)": 0.7, "pgd-20": 0.5}


def test_a_few_examples_are_said_beside_the_figure_and_left_out_of_the_worst_case(tmp_path):
    found = summed_up(
        tmp_path, records({"pgd-20": pgd(50, 100)}), records({"autoattack": pgd(1, 10)})
    )
    assert found["attacks"]["autoattack"]["examples"] == 10
    assert found["worst_case_robust_accuracy"] == 0.5
    shared = found["worst_case_on_shared_examples"]
    assert shared["robust_accuracy"] == 0.1 and shared["examples"] == 10
    assert shared["interval_95"][0] < 0.1 < shared["interval_95"][1]
    assert "first 10" in reports.to_table(found)
    assert "on the first 10, which all had" in (tmp_path / "evaluation.md").read_text()
    last = recorded_scores(found)[-1]
    assert (last.name, last.accuracy) == ("worst case on shared examples", 0.1)
    assert "on the first 10 examples" in about(last, [])


@pytest.mark.parametrize(
    "elsewhere",
    [
        records({"pgd-20": pgd(20, 100, epsilon=0.2)}),
        records({"pgd-20": pgd(20, 100, norm="l2")}),
        records({"pgd-20": pgd(20, 100)}, checkpoint={**BEST, "digest": "l", "kind": "latest"}),
        records({"pgd-20": pgd(20, 100)}, data=OTHER),
        records({"pgd-20": pgd(20, 100, epsilon=0.2)}, data=OTHER),
    ],
    ids=["radius", "norm", "checkpoint", "data", "data and radius"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_what_does_not_compare_stands_apart(tmp_path, elsewhere, order):
    evaluations = [records({"pgd-20": pgd(50, 100)}), elsewhere]
    found = summed_up(tmp_path, *evaluations[::order])
    assert accuracies(found) == {"pgd-20": 0.5}
    (other,) = found["others"]
    assert accuracies(other) == {"pgd-20": 0.2} and other["clean_accuracy"] == 0.9
    ((title, content),) = recorded_others(found)
    assert content == other and title.startswith("norm ")
    assert "20.00 %" in (tmp_path / "evaluation.md").read_text()


def test_after_more_training_the_newest_best_checkpoint_is_summed_up(tmp_path):
    longer = records({"pgd-20": pgd(40, 100)}, checkpoint={**BEST, "digest": "n", "step": 12})
    found = summed_up(tmp_path, records({"pgd-20": pgd(50, 100)}), longer)
    assert found["checkpoint"]["step"] == 12 and accuracies(found) == {"pgd-20": 0.4}
    (other,) = found["others"]
    assert other["checkpoint"]["step"] == 8 and accuracies(other) == {"pgd-20": 0.5}


def test_attacks_whose_clean_accuracy_was_lost_have_no_part(tmp_path):
    lost = records({"pgd-20": pgd(20, 100)}, data=OTHER)[1:]
    found = summed_up(tmp_path, records({"pgd-20": pgd(50, 100)}), lost)
    assert accuracies(found) == {"pgd-20": 0.5} and "others" not in found


def test_a_curve_of_other_data_stands_once(tmp_path):
    asked = {"step_size": None, "start": "uniform", "success": "last"}
    found = summed_up(
        tmp_path,
        records({"pgd-20": pgd(50, 100)}),
        *(
            records({"pgd-20": pgd(20, 100, epsilon=radius)}, data=OTHER, asked=asked)
            for radius in (0.2, 0.3)
        ),
    )
    first, second = found["others"]
    (curve,) = first["curves"]
    assert curve["epsilons"] == [0.0, 0.2, 0.3]
    assert "curves" not in second and "curves" not in found


def labelled(scores, **about):
    """Records of 100 examples of two classes, of which the first are of class 0."""
    found = {"clean": AttackScore(verdicts(90, 100), {}), **scores}
    labels = (np.arange(100) >= 80).astype(np.int32)
    images = np.zeros((100, 2, 2, 1), np.uint8)
    dataset = Dataset("digits", images, labels, 2, ("cat", "dog"))
    about = {"seed": 0, **about}
    return accumulated.records_of(found, data=TEST, checkpoint=BEST, about=about, dataset=dataset)


def test_verdicts_tell_classes_and_attacks_apart_and_list_what_fell(tmp_path):
    last = AttackScore(np.arange(100) >= 75, {"norm": "linf", "epsilon": EPSILON})
    found = summed_up(
        tmp_path, labelled({"pgd-20": pgd(85, 100)}), records({"fgsm": last})[1:],
        records({"pgd-20": pgd(20, 100, epsilon=0.2)})[1:],
    )  # fmt: skip
    cat, dog = found["per_class"]
    assert (cat["class"], cat["examples"], cat["clean_accuracy"]) == ("cat", 80, 1.0)
    assert (dog["class"], dog["examples"], dog["clean_accuracy"]) == ("dog", 20, 0.5)
    assert dog["robust_accuracy"] == {"pgd-20": 0.25, "fgsm": 1.0}
    assert cat["worst_case_robust_accuracy"] == 5 / 80
    (pair,) = found["paired"]
    assert pair["attack"] == "pgd-20" and pair["strongest"] == "fgsm"
    assert pair["broken_by_attack_alone"] == 15 and pair["broken_by_strongest_alone"] == 75
    assert all("per_class" not in other for other in found["others"])
    first, second = recorded_grids(found)
    assert first.rows[1] == ["dog", "20", "50.00", "25.00", "100.00", "25.00"]
    assert second.rows == [["pgd-20", "100", "15", "75", "< 0.0001"]]
    text = (tmp_path / "evaluation.md").read_text()
    assert "| dog | 20 | 50.00 | 25.00 | 100.00 | 25.00 |" in text and "per_class" not in text
    page = accuracy(found)
    assert [title for title, _ in page["verdicts"]] == [first.title, second.title]
    listed = accumulated.examples_of_run(
        Evaluations(Path(tmp_path)).records(), "linf", EPSILON
    ).splitlines()
    assert listed[0] == "example,label,clean,pgd-20,fgsm" and len(listed) == 101
    assert listed[1 + 76] == "76,0,1,1,1" and listed[1 + 99] == "99,1,0,0,1"


def test_classes_are_told_of_attacks_on_all_examples_alone(tmp_path):
    few = records({"autoattack": pgd(1, 10)})[1:]
    found = summed_up(tmp_path, labelled({"pgd-20": pgd(85, 100)}), few)
    assert [set(row["robust_accuracy"]) for row in found["per_class"]] == [{"pgd-20"}] * 2


@pytest.mark.parametrize("damage", [5, [5], [{}], [{"class": 1, "examples": "x"}], {"a": 1}])
def test_what_makes_no_sense_of_verdicts_is_left_out(damage):
    assert recorded_grids({"per_class": damage, "paired": damage}) == []


def test_rounding_makes_no_other_ball(tmp_path):
    close = records({"fgsm": pgd(60, 100, epsilon=EPSILON * (1 + 1e-9))})
    found = summed_up(tmp_path, records({"pgd-20": pgd(50, 100)}), close)
    assert set(accuracies(found)) == {"pgd-20", "fgsm"} and "others" not in found


EARLIER = {
    "clean_accuracy": 0.9,
    "interval_95": [0.8, 0.95],
    "attacks": {
        "fgsm": {"robust_accuracy": 0.6, "interval_95": [0.5, 0.7], "epsilon": EPSILON,
                 "norm": "linf", "warnings": ["few classes"]},
    },
    "worst_case_robust_accuracy": 0.55,
    "worst_case_interval_95": [0.5, 0.6],
    "examples": 100,
    "available_examples": 100,
    "dataset": "digits test",
    "checkpoint": {"kind": "best", "step": 8, "moving_average": False},
    "seed": 0,
}  # fmt: skip


def test_what_was_measured_before_there_were_records_is_kept(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(EARLIER))
    later = records({"pgd-20": pgd(50, 100)}, checkpoint={**BEST, "digest": "l", "kind": "latest"})
    found = summed_up(tmp_path, later)
    every = [found, *found["others"]]
    assert {"fgsm": 0.6} in map(accuracies, every) and {"pgd-20": 0.5} in map(accuracies, every)
    (earlier,) = [part for part in every if "fgsm" in part["attacks"]]
    assert earlier["worst_case_robust_accuracy"] == 0.55
    fgsm = earlier["attacks"]["fgsm"]
    assert fgsm["warnings"] == ["few classes"] and fgsm["interval_95"] == [0.5, 0.7]


def test_an_interval_that_an_earlier_file_lacks_is_that_of_its_examples(tmp_path):
    attacks = {"fgsm": {"robust_accuracy": 0.5, "epsilon": EPSILON, "norm": "linf"}}
    (tmp_path / "evaluation.json").write_text(json.dumps({**EARLIER, "attacks": attacks}))
    found = summed_up(tmp_path, [])["attacks"]["fgsm"]
    # Wilson's of 50 in 100.
    assert found["interval_95"] == pytest.approx([0.40383, 0.59617], abs=1e-5)


def test_without_verdicts_nothing_is_said_of_the_examples_that_all_attacks_had(tmp_path):
    few = {**EARLIER["attacks"]["fgsm"], "robust_accuracy": 0.1, "examples": 10}
    earlier = {**EARLIER, "attacks": {**EARLIER["attacks"], "autoattack": few}}
    (tmp_path / "evaluation.json").write_text(json.dumps(earlier))
    found = summed_up(tmp_path, [])
    assert accuracies(found) == {"fgsm": 0.6, "autoattack": 0.1}
    assert "worst_case_on_shared_examples" not in found


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"{}", b'{"attacks": 5}'])
def test_an_earlier_file_that_cannot_be_read_is_kept_aside_and_said(tmp_path, content):
    (tmp_path / "evaluation.json").write_bytes(content)
    said = []
    summary = accumulated.add_to_run(
        Path(tmp_path), records({"pgd-20": pgd(50, 100)}), "linf", EPSILON, said.append
    )
    assert (tmp_path / "evaluation.damaged.json").read_bytes() == content
    assert str(tmp_path / "evaluation") in "".join(said)
    assert accuracies(summary) == {"pgd-20": 0.5}


def test_each_command_that_made_a_figure_is_told_once_in_order(tmp_path):
    fgsm = {"fgsm": pgd(60, 100, steps=1)}
    found = summed_up(
        tmp_path,
        records({"pgd-20": pgd(50, 100)}),
        records({**fgsm, "pgd-4": pgd(55, 100, steps=4)}, command="evaluate 1"),
        records({"autoattack": pgd(1, 10, steps=0)}, command="evaluate 2"),
        records({"pgd-20": pgd(20, 100, epsilon=0.2)}, command="evaluate 3"),
        records({"pgd-20": pgd(50, 100)}, seed=1, command="evaluate 1"),
    )
    assert found["commands"] == ["evaluate 1", "evaluate 2"] and "command" not in found
    assert [other["commands"] for other in found["others"]] == [["evaluate 3"]]
    assert recorded_commands(found) == ["evaluate 1", "evaluate 2", "evaluate 3"]
    text = (tmp_path / "evaluation.md").read_text()
    assert text.index("* command: `evaluate 1`") < text.index("* command: `evaluate 2`")


def test_the_command_makes_no_other_figure_and_older_records_have_none(tmp_path):
    found = summed_up(tmp_path, records({"pgd-20": pgd(50, 100)}))
    assert "commands" not in found and recorded_commands(found) == []
    found = summed_up(tmp_path, records({"pgd-20": pgd(51, 100)}, command="a"))
    found = summed_up(tmp_path, records({"pgd-20": pgd(52, 100)}, command="b"))
    assert accuracies(found) == {"pgd-20": 0.52} and found["commands"] == ["b"]
