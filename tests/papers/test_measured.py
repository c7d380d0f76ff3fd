"""What is read of a table's networks, from logs and records that are written here, not trained."""

import json

import pytest

from robustjax.files import Path
from robustjax.papers.item import Column, Item, Row, trained
from robustjax.papers.measured import (
    Cell,
    Seen,
    cells_of,
    is_trained,
    missing_evaluations,
)
from robustjax.papers.planned import Networks, Request, networks_of
from robustjax.runs.evaluations import Evaluations, Record

EPOCHS = 4
QUICK = trained("quickstart", epochs=EPOCHS, epsilon="4/255", measure_epsilon="8/255")
PGD = "pgd-20(step_size=2/255)"
ATTACKED = Column("PGD", PGD)
WIDE = Column("wide", PGD, "16/255")
NATURAL = Column("Natural", "clean")
PASSES = Column("passes", "", quantity="mean_backward_passes")
SPENT = Column("spent", "", quantity="elapsed_seconds")


@pytest.fixture
def asked(tmp_path):
    return Request(Path(tmp_path))


@pytest.fixture
def folder(asked):
    """Of the network of `QUICK` with seed 1."""
    made = Path(Networks(asked).config(QUICK, 1).workdir)
    made.mkdir(parents=True)
    return made


def item(*columns, seeds=(1,), **others):
    return Item("table1", "a table", "section 1", (Row("a", QUICK),), columns, seeds, **others)


def value(asked, column):
    """What is found in the one cell of a table of one row."""
    one = item(column)
    (cell,) = cells_of(one, one.rows, asked)
    return cell.ours


def log(folder, **columns):
    rows = [
        {"epoch": epoch, **dict(zip(columns, values, strict=True))}
        for epoch, values in enumerate(zip(*columns.values(), strict=True), 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def record(
    attack=PGD,
    accuracy=0.5,
    *,
    examples=20,
    epochs=EPOCHS,
    kind="latest",
    own=True,
    seed=0,
    **changed,
):
    settings = {
        "norm": "linf", "epsilon": 8 / 255, "step_size": 2 / 255, "start": "uniform",
        "success": "last",
    }  # fmt: skip
    return Record(
        attack,
        {} if attack == "clean" else settings | changed,
        {"dataset": "digits", "own": own, "available_examples": 20},
        {"kind": kind, "step": 7},
        examples,
        accuracy,
        (accuracy - 0.25, accuracy + 0.125),
        about={"seed": seed, "trained_epochs": epochs},
    )


def test_of_passes_the_mean_over_the_epochs_is_shown_and_of_time_the_last(asked, folder):
    log(folder, mean_backward_passes=[1.0, 2.0, 3.0, 8.0], elapsed_seconds=[10.0, 20.0, 30.0, 41.0])
    assert value(asked, PASSES) == 3.5
    assert value(asked, SPENT) == 41.0


def test_a_log_that_lacks_an_epoch_or_its_number_shows_nothing(asked, folder):
    assert value(asked, PASSES) is None
    log(folder, mean_backward_passes=[1.0, 2.0, 3.0], elapsed_seconds=[10.0, 20.0, 30.0])
    assert value(asked, PASSES) is None and value(asked, SPENT) is None
    log(folder, mean_backward_passes=[1.0, None, 3.0, 8.0], elapsed_seconds=[1.0, 2.0, 3.0, 4.0])
    assert value(asked, PASSES) is None and value(asked, SPENT) == 4.0


def test_of_several_records_the_newest_counts_with_its_own_interval(asked, folder):
    Evaluations(folder).add([record(accuracy=0.25), record(accuracy=0.5)])
    Evaluations(folder).add([record(accuracy=0.75)])
    one = item(ATTACKED)
    (cell,) = cells_of(one, one.rows, asked)
    assert cell.seen == {1: Seen(75.0, (50.0, 87.5), 20)}


@pytest.mark.parametrize(
    "other",
    [
        record("pgd-10"),
        record(epsilon=16 / 255),
        record(kind="best"),
        record(examples=10),
        record(epochs=EPOCHS - 1),
        record(norm="l2"),
        record(step_size=1 / 255),
        record(start="clean"),
        record(success="any"),
        record(own=False),
        record(seed=1),
    ],
)
def test_a_record_of_another_evaluation_is_not_the_cells(asked, folder, other):
    Evaluations(folder).add([other])
    assert value(asked, ATTACKED) is None


def test_a_columns_own_radius_counts_and_otherwise_the_one_that_training_measures_in(asked, folder):
    Evaluations(folder).add([record(accuracy=0.5), record(accuracy=0.25, epsilon=16 / 255)])
    assert value(asked, ATTACKED) == 50.0
    assert value(asked, WIDE) == 25.0


def test_clean_images_have_no_radius(asked, folder):
    Evaluations(folder).add([record("clean", 0.75)])
    assert value(asked, NATURAL) == 75.0
    assert value(asked, NATURAL.but(epsilon="16/255")) == 75.0


def test_seeds_are_a_mean_or_a_median_and_a_row_without_training_is_empty(asked):
    for seed, accuracy in ((1, 0.25), (2, 0.375), (3, 0.75)):
        folder = Path(Networks(asked).config(QUICK, seed).workdir)
        folder.mkdir(parents=True)
        Evaluations(folder).add([record(accuracy=accuracy)])
    for centre, expected in (("mean", 137.5 / 3), ("median", 37.5)):
        one = item(ATTACKED, seeds=(1, 2, 3, 4), centre=centre)
        (cell,) = cells_of(one, one.rows, asked)
        assert cell.ours == pytest.approx(expected) and sorted(cell.seen) == [1, 2, 3]
    (empty,) = cells_of(one, [Row("b", published={"PGD": 50.0})], asked)
    assert (empty.ours, empty.deviation, empty.interval, empty.difference) == (None,) * 4
    assert empty.paper == 50.0


def test_the_interval_over_seeds_is_students_and_of_one_seed_its_own():
    # Student's 97.5 % quantile of two degrees of freedom is 4.30265.
    seen = {seed: Seen(number) for seed, number in enumerate((48.0, 50.0, 52.0))}
    cell = Cell("a", "b", (49.0, 0.5), seen)
    half = 4.30265 * 2 / 3**0.5
    assert cell.deviation == 2.0 and cell.interval == pytest.approx((50 - half, 50 + half))
    assert (cell.paper, cell.difference) == (49.0, 1.0)
    one = Cell("a", "b", "n/a", {1: Seen(48.0, (45.0, 52.0), 10)})
    assert (one.deviation, one.interval, one.paper) == (None, (45.0, 52.0), None)


def test_what_the_seeds_have_is_the_same_after_it_was_written():
    seen = {1: Seen(48.0, (45.0, 52.0), 10), 2: Seen(3.5)}
    written = json.loads(json.dumps(Cell("a", "b", 49.0, seen).to_json()))
    assert Cell.seen_from_json(written) == seen


def test_a_network_is_trained_when_its_log_has_each_epoch(asked, folder):
    config = Networks(asked).config(QUICK, 1)
    assert not is_trained(config)
    log(folder, loss=[1.0] * (EPOCHS - 1))
    assert not is_trained(config)
    log(folder, loss=[1.0] * EPOCHS)
    assert is_trained(config)


def test_missing_is_what_no_record_is_of(asked, folder):
    one = item(NATURAL, ATTACKED, WIDE)
    (network,) = networks_of({"p/table1": (one, one.rows)}, asked)
    assert [missed.attacks for missed in missing_evaluations(network)] == [("clean", PGD), (PGD,)]
    Evaluations(folder).add([record("clean", 0.75), record(epsilon=16 / 255)])
    (missed,) = missing_evaluations(network)
    assert (missed.attacks, missed.epsilon) == ((PGD,), None)
