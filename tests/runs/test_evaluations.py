"""The records of evaluations: what is added stays, and what is damaged is left out alone."""

import dataclasses
import errno
import json
import math
import os
import threading

import numpy as np
import pytest

from robustjax.runs.evaluations import Evaluations, Record, Selection, best_of_each, is_same

CORRECT = np.array([True, False, True, True, False, False, True, False, True, True, True])

PGD = Record(
    attack="pgd-20",
    settings={"norm": "linf", "epsilon": 8 / 255, "restarts": 2},
    data={"dataset": "digits", "digest": "d1", "available_examples": 360, "own": True},
    checkpoint={"digest": "c1", "kind": "best", "step": 40, "moving_average": None},
    examples=11,
    accuracy=7 / 11,
    interval=(0.35, 0.85),
    correct=CORRECT,
    measured={"warnings": ["a warning, ä"], "seconds": 1.5},
    about={"seed": 3, "trained_epochs": 10},
)
SHARE = dataclasses.replace(PGD, attack="clean", settings={}, correct=None)


def same(one, other):
    """Whether two records agree; arrays have no truth value, so `==` cannot tell."""
    for field in dataclasses.fields(Record):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("correct", "labels") and a is not None and b is not None:
            if a.dtype != b.dtype or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return True


def changed(record=PGD, **parts):
    """The line of a record with other parts; None leaves one out."""
    content = {**json.loads(record.to_json()), **parts}
    return json.dumps({name: part for name, part in content.items() if part is not None})


LABELLED = dataclasses.replace(
    PGD, attack="clean", settings={}, labels=np.arange(11, dtype=np.int32) % 5
)


@pytest.mark.parametrize("record", [PGD, SHARE, LABELLED], ids=["verdicts", "share", "labels"])
def test_a_record_is_one_line_and_comes_back(record):
    line = record.to_json()
    assert line.isprintable()
    assert same(Record.from_json(line), record)
    assert same(Record.from_json(Record.from_json(line).to_json()), record)


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 16, 1000])
def test_verdicts_come_back_whatever_their_number(examples):
    correct = np.random.default_rng(examples).uniform(size=examples) < 0.6
    record = dataclasses.replace(
        PGD, examples=examples, accuracy=float(correct.mean()), correct=correct
    )
    found = Record.from_json(record.to_json()).correct
    assert found.dtype == bool
    np.testing.assert_array_equal(found, correct)


def test_ends_of_the_unit_interval_come_back():
    for accuracy in (0, 1, 0.0, 1.0):
        correct = np.full(3, bool(accuracy))
        line = changed(accuracy=accuracy, examples=3, interval=[0, 1], correct=None)
        assert Record.from_json(line).accuracy == accuracy
        record = dataclasses.replace(PGD, accuracy=accuracy, examples=3, correct=correct)
        assert same(Record.from_json(record.to_json()), record)


def test_parts_of_a_later_version_are_left_out():
    assert same(Record.from_json(changed(mood="good")), PGD)


DAMAGED = {
    "cut off": PGD.to_json()[:-20],
    "nothing": "",
    "no JSON": "these are words",
    "a list": f"[{PGD.to_json()}]",
    "a number": "5",
    "nested too deeply": "[" * 100_000,
    "another format": changed(format=2),
    "no format": changed(format=None),
    **{
        f"no {part}": changed(**{part: None})
        for part in ("attack", "settings", "data", "checkpoint", "examples", "accuracy",
                     "interval", "measured", "about")
    },
    **{
        f"{part} is text": changed(**{part: "1"})
        for part in ("settings", "data", "checkpoint", "examples", "accuracy", "interval",
                     "measured", "about")
    },
    "attack is a number": changed(attack=5),
    "no examples": changed(SHARE, examples=0),
    "fewer than no examples": changed(SHARE, examples=-1),
    "half an example": changed(SHARE, examples=10.5),
    "examples are true": changed(SHARE, examples=True),
    "accuracy is true": changed(SHARE, accuracy=True),
    "accuracy in percent": changed(SHARE, accuracy=63.6),
    "accuracy below 0": changed(SHARE, accuracy=-0.1),
    "accuracy is no number": changed(SHARE, accuracy=math.nan),
    "accuracy is infinite": changed(SHARE, accuracy=math.inf),
    "accuracy of 400 digits": changed(SHARE, accuracy=10**400),
    "half an interval": changed(interval=[0.35]),
    "an interval of three": changed(interval=[0.35, 0.6, 0.85]),
    "an interval in percent": changed(interval=[35, 85]),
    "an interval of text": changed(interval=["0.35", "0.85"]),
    "verdicts in another code": changed(correct="§§"),
    "verdicts as a list": changed(correct=[1, 0, 1]),
    "verdicts of more examples": changed(correct="AAAA"),
    "verdicts of fewer examples": changed(correct="AA=="),
    "another accuracy than that of the verdicts": changed(accuracy=8 / 11),
    "other verdicts": changed(dataclasses.replace(PGD, correct=~CORRECT)),
}  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_line_is_no_record(line):
    with pytest.raises(ValueError):
        Record.from_json(line)


@pytest.mark.parametrize("line", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_line_is_reported_and_takes_no_other_with_it(tmp_path, line):
    path = tmp_path / "evaluations.jsonl"
    path.write_text(f"{PGD.to_json()}\n{line}\n{SHARE.to_json()}\n")
    said = []
    found = Evaluations(tmp_path).records(said.append)
    assert len(found) == 2 and same(found[0], PGD) and same(found[1], SHARE)
    assert len(said) == 1
    assert said[0].startswith(f"{path}: line 2 is left out: ")
    assert len(said[0].splitlines()) == 1


def test_bytes_that_are_no_text_take_no_other_line_with_them(tmp_path):
    lines = [PGD.to_json().encode(), b'{"format": 1, \xff\xfe', SHARE.to_json().encode()]
    (tmp_path / "evaluations.jsonl").write_bytes(b"\n".join(lines))
    said = []
    assert len(Evaluations(tmp_path).records(said.append)) == 2
    assert len(said) == 1 and "line 2 " in said[0]


def test_verdicts_that_disagree_with_the_accuracy_say_so():
    with pytest.raises(ValueError, match="accuracy is not that of its verdicts"):
        Record.from_json(changed(accuracy=6 / 11))


@pytest.mark.parametrize(
    ("selection", "accepted"),
    [
        (Selection("pgd-20"), True),
        (Selection("pgd-10"), False),
        (Selection("clean"), False),
        (Selection("pgd-20", examples=11), True),
        (Selection("pgd-20", examples=10), False),
        (Selection("pgd-20", examples=12), False),
        (Selection("pgd-20", examples=math.inf), False),
        (Selection("pgd-20", checkpoint="best"), True),
        (Selection("pgd-20", checkpoint="latest"), False),
        (Selection("pgd-20", epochs=10), True),
        (Selection("pgd-20", epochs=9), False),
        (Selection("pgd-20", settings={"norm": "linf"}), True),
        (Selection("pgd-20", settings={"norm": "l2"}), False),
        (Selection("pgd-20", settings={"epsilon": 8 / 255 + 1e-12, "restarts": 2.0}), True),
        (Selection("pgd-20", settings={"epsilon": 0.031}), False),
        (Selection("pgd-20", settings={"norm": "linf", "restarts": 1}), False),
        (Selection("pgd-20", settings={"momentum": 0.9}), False),
        (Selection("pgd-20", 11, "best", 10, {"norm": "linf"}), True),
        (Selection("pgd-20", seed=3), True),
        (Selection("pgd-20", seed=0), False),
    ],
    ids=range(20),
)
def test_which_evaluation_is_wanted(selection, accepted):
    assert selection.accepts(PGD) is accepted


def test_of_other_data_than_the_runs_own_nothing_is_taken():
    record = dataclasses.replace(PGD, data={**PGD.data, "own": False})
    assert not Selection("pgd-20").accepts(record)
    nothing_said = {key: value for key, value in PGD.data.items() if key != "own"}
    assert Selection("pgd-20").accepts(dataclasses.replace(PGD, data=nothing_said))


@pytest.mark.parametrize(
    ("made", "available", "wanted", "accepted"),
    [
        (360, 360, math.inf, True),
        (359, 360, math.inf, False),
        # More than there are is all there are.
        (360, 360, 1000, True),
        (100, 360, 1000, False),
        (1000, None, 1000, True),
        (360, None, 1000, False),
    ],
)
def test_all_examples_are_those_there_are(made, available, wanted, accepted):
    data = {**PGD.data, "available_examples": available}
    record = dataclasses.replace(PGD, examples=made, data=data)
    assert Selection("pgd-20", examples=wanted).accepts(record) is accepted


@pytest.mark.parametrize(
    "parts",
    [
        {"settings": {"epsilon": 10**400}},
        {"settings": {"epsilon": [1]}},
        {"data": {"available_examples": "many"}},
        {"data": {"available_examples": [360]}},
        {"checkpoint": {"kind": ["best"]}},
        {"about": {"trained_epochs": {}}},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_not_the_one_that_is_wanted(parts):
    record = dataclasses.replace(PGD, **parts)
    assert not Selection("pgd-20", 12, "best", 10, {"epsilon": 8 / 255}).accepts(record)


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        (0.1, 0.1 * (1 + 1e-9), True),
        (0.1, 0.1001, False),
        (2, 2.0, True),
        (0, 0.0, True),
        (0, 1e-9, False),
        ("a", "a", True),
        ("1", 1, False),
        (None, None, True),
        (None, 0, False),
        (True, True, True),
        (True, False, False),
        ([1], [1], True),
    ],
    ids=str,
)
def test_settings_are_compared_up_to_rounding(found, wanted, expected):
    assert is_same(found, wanted) is expected


def numbered(number, examples, attack="pgd-20", **settings):
    about = {"number": number}
    return Record(attack, settings, {}, {}, examples, 0.5, (0.0, 1.0), about=about)


def test_the_most_examples_count_and_then_the_newest():
    records = [
        numbered(0, 100, epsilon=0.1, norm="linf"),
        numbered(1, 100, "clean"),
        numbered(2, 1000, epsilon=0.2, norm="linf"),
        numbered(3, 200, norm="linf", epsilon=0.1),
        numbered(4, 150, epsilon=0.1, norm="linf"),
        numbered(5, 1000, epsilon=0.2, norm="linf"),
        numbered(6, 999, epsilon=0.2, norm="linf"),
        numbered(7, 10, "apgd", epsilon=0.1, norm="linf"),
    ]
    best = best_of_each(iter(records))
    assert [record.about["number"] for record in best] == [3, 1, 5, 7]
    assert best_of_each([]) == []


def test_nothing_is_drawn_for_clean_images_so_their_seed_makes_no_other_record():
    again = dataclasses.replace(SHARE, about={"seed": 4})
    assert best_of_each([SHARE, again]) == [again]


def test_what_is_attacked_is_told_by_digests_where_there_are_any():
    def subject(data, checkpoint):
        return dataclasses.replace(PGD, data=data, checkpoint=checkpoint).subject

    whole = subject({"digest": "d", "dataset": "digits"}, {"digest": "c", "kind": "best"})
    assert whole == subject({"digest": "d", "dataset": "mine"}, {"digest": "c", "kind": "latest"})
    assert whole != subject({"digest": "e", "dataset": "digits"}, {"digest": "c"})
    assert whole != subject({"digest": "d", "dataset": "digits"}, {"digest": "b"})
    named = subject({"dataset": "digits"}, {"kind": "best", "step": 4})
    assert named == subject({"dataset": "digits"}, {"kind": "best", "step": 4})
    assert named != subject({"dataset": "mnist"}, {"kind": "best", "step": 4})
    assert named != subject({"dataset": "digits"}, {"kind": "best", "step": 5})
    assert named != subject({"dataset": "digits"}, {"kind": "latest", "step": 4})


def test_records_are_added_and_none_is_lost(tmp_path):
    evaluations = Evaluations(tmp_path / "run")
    assert not evaluations.exists() and evaluations.records() == []
    evaluations.add([PGD])
    evaluations.add([SHARE, PGD])
    evaluations.add([])
    Evaluations(tmp_path / "run").add([SHARE])
    assert evaluations.exists()
    found = evaluations.records(pytest.fail)
    assert len(found) == 4
    assert all(map(same, found, [PGD, SHARE, PGD, SHARE]))
    assert os.listdir(tmp_path / "run") == ["evaluations.jsonl"]


def test_a_last_line_that_is_cut_off_keeps_the_records_around_it(tmp_path):
    path = tmp_path / "evaluations.jsonl"
    Evaluations(tmp_path).add([PGD, SHARE])
    path.write_bytes(path.read_bytes()[:-30])
    said = []
    assert len(Evaluations(tmp_path).records(said.append)) == 1
    Evaluations(tmp_path).add([SHARE])
    found = Evaluations(tmp_path).records(said.append)
    assert len(found) == 2 and same(found[0], PGD) and same(found[1], SHARE)
    assert len(said) == 2 and all("line 2 is left out" in line for line in said)


def test_only_the_end_of_the_last_line_is_missing(tmp_path):
    path = tmp_path / "evaluations.jsonl"
    path.write_text(PGD.to_json())
    Evaluations(tmp_path).add([SHARE])
    assert len(Evaluations(tmp_path).records(pytest.fail)) == 2


def test_damaged_lines_stay_where_they_are(tmp_path):
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(b"a line of \xff a later version\n")
    Evaluations(tmp_path).add([PGD])
    assert path.read_bytes() == b"a line of \xff a later version\n" + PGD.to_json().encode() + b"\n"


def test_records_that_cannot_be_written_leave_the_others(tmp_path, monkeypatch):
    evaluations = Evaluations(tmp_path)
    evaluations.add([PGD])
    before = (tmp_path / "evaluations.jsonl").read_bytes()

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"evaluations\.jsonl"):
        evaluations.add([SHARE])
    monkeypatch.undo()
    assert (tmp_path / "evaluations.jsonl").read_bytes() == before
    assert os.listdir(tmp_path) == ["evaluations.jsonl"]
    evaluations.add([SHARE])
    assert len(evaluations.records()) == 2


def test_records_that_are_added_at_once_are_all_there(tmp_path):
    errors = []

    def add(writer):
        try:
            for number in range(6):
                Evaluations(tmp_path).add([numbered(10 * writer + number, 100)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    numbers = [record.about["number"] for record in Evaluations(tmp_path).records(pytest.fail)]
    assert sorted(numbers) == [10 * writer + number for writer in range(4) for number in range(6)]
    # Of each writer in the order in which it added them.
    assert all(
        [number for number in numbers if number // 10 == writer]
        == sorted(number for number in numbers if number // 10 == writer)
        for writer in range(4)
    )


@pytest.mark.parametrize("largest", [0, 255, 256, 65_535, 65_536])
def test_labels_come_back_in_as_few_bytes_as_hold_them(largest):
    labels = np.full(11, largest, np.int32)
    labels[3] = 0
    record = dataclasses.replace(LABELLED, labels=labels)
    assert same(Record.from_json(record.to_json()), record)
    size = len(json.loads(record.to_json())["labels"])
    assert size == {0: 16, 255: 16, 256: 32, 65_535: 32}.get(largest, 60)


@pytest.mark.parametrize("labels", [5, "?", "AAAA", 4 * "AAAA", ""])
def test_labels_of_other_than_the_examples_are_damage(labels):
    with pytest.raises(ValueError, match="labels"):
        Record.from_json(changed(LABELLED, labels=labels))
