"""The tables that are read from runs: what must fit together, and what they say of it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import beside_autoattack, record_table
from robustjax import training
from robustjax.config import TrainConfig
from robustjax.evaluation.verdicts import wilson_interval
from robustjax.models import flops
from robustjax.runs.evaluations import Evaluations, Record
from robustjax.runs.folder import read_run

CONFIG = TrainConfig(
    method="standard",
    dataset="digits",
    model="digits_cnn",
    epsilon=0.1,
    steps=3,
    epochs=1,
    train_examples=64,
    batch_size=32,
    holdout=0,
    measure_examples=8,
    measure_steps=1,
)
DATA = {"digest": "d", "dataset": "digits test", "available_examples": 360, "own": True}
CHECKPOINT = {"digest": "c", "kind": "best", "step": 1}
BALL = {"norm": "linf", "epsilon": 0.1}


def record(attack, correct, seconds=1.0, **settings):
    correct = np.array(correct, bool)
    return Record(
        attack=attack,
        settings=settings,
        data=DATA,
        checkpoint=CHECKPOINT,
        examples=len(correct),
        accuracy=float(correct.mean()),
        interval=wilson_interval(int(correct.sum()), len(correct)),
        correct=correct,
        about={
            "attack_seconds": seconds,
            "command": "evaluate.py --workdir=/a --attacks=x",
            "seed": 0,
        },
    )


def autoattack(correct, seconds=1.0, **settings):
    return record("autoattack", correct, seconds, **{**BALL, "version": "standard", **settings})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("record") / "run"
    training.train(dataclasses.replace(CONFIG, workdir=str(workdir)))
    return workdir


def run_with(workdir, *records):
    path = workdir / "evaluations.jsonl"
    path.unlink(missing_ok=True)
    Evaluations(workdir).add(records)
    return read_run(str(workdir), "a/run")


def test_a_row_is_what_the_run_recorded(trained, tmp_path):
    run = run_with(
        trained,
        dataclasses.replace(
            record("clean", [0, 0, 0, 0]), checkpoint={**CHECKPOINT, "digest": "e"}
        ),
        record("clean", [1, 1, 1, 0]),
        record("clean", [1, 0]),
        autoattack([1, 0]),
        autoattack([1, 1, 1, 1], epsilon=0.05),
        autoattack([0, 1, 0, 0]),
        autoattack([1, 1, 1, 1], version="rand"),
    )
    row = record_table.row_of(run)
    assert (row["clean"], row["autoattack"], row["examples"]) == (0.75, 0.25, 4)
    assert row["seconds"] == json.loads((trained / "metrics.jsonl").read_text())["elapsed_seconds"]
    # 64 images, three gradients for the image at two passes, and three passes of the outer loss.
    assert row["flops"] == pytest.approx(64 * 9 * flops.forward("digits_cnn", (8, 8, 1)))

    assert row["evaluated_with"] == "evaluate.py --attacks=x"

    record_table.write(tmp_path, row, run)
    found = record_table.read(tmp_path)
    assert found == [row]
    flags = (tmp_path / "a-run.flags").read_text().splitlines()
    assert "--train_examples=64" in flags
    assert not any("workdir" in flag or "data_dir" in flag for flag in flags)
    header, _, line = record_table.markdown(found).splitlines()
    assert [entry.strip() for entry in line.split("|")[1:7]] == [
        *("digits", "linf 0.1", "digits_cnn", "standard", "75.0"),
        "25.0 (4.6 to 69.9)",
    ]
    assert "PFLOP" in header


def test_evaluations_in_another_ball_or_of_other_images_are_none_of_it(trained):
    others = [
        autoattack([1, 1, 1, 1], norm="l2"),
        dataclasses.replace(autoattack([1, 1, 1, 1]), data={**DATA, "own": False, "digest": "o"}),
        dataclasses.replace(record("clean", [1, 1, 1, 1]), data={**DATA, "digest": "o"}),
    ]
    row = record_table.row_of(
        run_with(trained, record("clean", [1, 1, 1, 0]), *others, autoattack([0, 1, 0, 0]))
    )
    assert (row["clean"], row["autoattack"]) == (0.75, 0.25)


def test_time_and_work_are_those_of_all_epochs_with_the_steps_that_were_taken(trained):
    run = run_with(trained, record("clean", [1]), autoattack([1]))
    rows = [
        {**run.rows[0], "elapsed_seconds": 60 * epoch, "mean_backward_passes": epoch}
        for epoch in (1, 2)
    ]
    row = record_table.row_of(dataclasses.replace(run, rows=rows))
    assert row["seconds"] == 120
    # Of the one epoch that was asked for: 1.5 gradients for the image, and the outer loss.
    assert row["flops"] == pytest.approx(64 * 6 * flops.forward("digits_cnn", (8, 8, 1)))


def test_flags_of_a_place_and_empty_ones_are_not_repeated(trained, tmp_path):
    run = run_with(trained, record("clean", [1]), autoattack([1]))
    flags = {"remat": "true", "augment": "false", "layout": "", "data_dir": "/a", "epochs": "1"}
    record_table.write(tmp_path, {"name": "a"}, dataclasses.replace(run, flags=flags))
    written = (tmp_path / "a.flags").read_text().split()
    assert written == ["--remat", "--augment=false", "--epochs=1"]


def test_the_readme_has_the_table_of_the_committed_rows():
    root = Path(__file__).parents[2]
    _, _, rest = (root / "README.md").read_text().partition("record_table --output=")
    folder, _, rest = rest.partition(" -->")
    rows = record_table.read(root / folder)
    assert rest.partition("<!--")[0].strip() == record_table.markdown(rows)
    for row in rows:
        assert (root / folder / f"{row['name']}.flags").exists()


def test_no_row_without_both_evaluations(trained):
    with pytest.raises(ValueError, match="evaluate it first"):
        record_table.row_of(run_with(trained, record("clean", [1, 1]), autoattack([1])))


def test_no_row_of_an_unfinished_training(trained):
    run = run_with(trained, record("clean", [1]), autoattack([1]))
    with pytest.raises(ValueError, match="0 of 1 epochs"):
        record_table.row_of(dataclasses.replace(run, rows=()))


def test_rows_are_sorted_by_data_and_then_the_most_robust_first(tmp_path):
    for name, dataset, epsilon, accuracy in (
        ("a", "mnist", 0.3, 0.5),
        ("b", "mnist", 0.3, 0.7),
        ("c", "mnist", 0.1, 0.6),
        ("d", "digits", 0.3, 0.1),
    ):
        row = {"name": name, "dataset": dataset, "epsilon": epsilon, "autoattack": accuracy}
        (tmp_path / f"{name}.json").write_text(json.dumps(row))
    assert [row["name"] for row in record_table.read(tmp_path)] == ["d", "c", "b", "a"]


def test_no_rows_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="--workdirs"):
        record_table.read(tmp_path)


def test_a_cheaper_attack_is_compared_image_by_image(trained):
    run = run_with(
        trained,
        record("malt", [1, 1, 0, 0], 2.0, **BALL),
        autoattack([1, 0, 0, 1], 8.0),
        autoattack([0, 0, 0, 0], 8.0, epsilon=0.3),
    )
    row = beside_autoattack.row_of(run, "malt")
    assert row["broken_by_the_other_alone"] == 1  # the last image
    assert row["broken_by_autoattack_alone"] == 1  # the second
    entries = dict(zip(beside_autoattack.HEADER, beside_autoattack.entries(row), strict=True))
    assert entries["same verdicts %"] == "50.0"
    assert entries["of AutoAttack's time"] == "0.25"


def test_the_latest_on_the_most_images_of_one_checkpoint_are_compared(trained):
    other_checkpoint = dataclasses.replace(
        record("malt", [0, 0, 0], **BALL), checkpoint={**CHECKPOINT, "digest": "e"}
    )
    run = run_with(
        trained,
        record("malt", [1, 1], **BALL),
        autoattack([1, 1]),
        dataclasses.replace(autoattack([1, 1, 1, 1]), correct=None),
        record("malt", [1, 1, 1, 1], **BALL),
        record("malt", [1, 1, 1, 1], **BALL),
        record("malt", [1, 1, 1], 1.0, **BALL),
        record("malt", [0, 0, 1], 3.0, **BALL, seed=1),
        other_checkpoint,
        autoattack([1, 1, 0], 6.0),
    )
    row = beside_autoattack.row_of(run, "malt")
    assert row["examples"] == 3
    assert (row["broken_by_the_other_alone"], row["broken_by_autoattack_alone"]) == (2, 1)
    assert row["seconds"] == {"autoattack": 6.0, "malt": 3.0}
    assert row["other"] == pytest.approx(1 / 3)


def test_attacks_of_other_images_or_balls_are_not_compared(trained):
    run = run_with(
        trained,
        record("malt", [1, 1], **BALL),
        record("malt", [1, 1, 0, 0], norm="linf", epsilon=0.2),
        autoattack([1, 0, 0, 1]),
    )
    with pytest.raises(ValueError, match="by autoattack and by malt"):
        beside_autoattack.row_of(run, "malt")
