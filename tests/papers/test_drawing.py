"""Figures of items: which numbers they have, and that the paper's are among them."""

import csv
import json

import matplotlib.image
import pytest

from robustjax.files import Path
from robustjax.papers import drawing
from robustjax.papers.item import Column, Curves, Item, Points, Row, trained
from robustjax.papers.measured import Cell, Seen
from robustjax.papers.planned import Networks, Request
from robustjax.runs.log import KEYS

ATTACKED = (Column("Natural", "clean"), Column("PGD", "pgd-2"))


def cell(row, column, ours, paper=None):
    return Cell(row, column, paper, {1: Seen(ours, (ours - 1, ours + 1), 10)})


def numbers(path):
    image = matplotlib.image.imread(path)
    assert image.std() > 0.01
    return list(csv.DictReader(path.with_suffix(".csv").open()))


@pytest.mark.parametrize("log", [False, True])
def test_points_lie_on_the_lines_of_their_rows_in_order(tmp_path, log):
    rows = [
        Row(f"β = {x}", line=line, x=x) for line in ("with", "without") for x in (6.0, 0.0, 1.0)
    ]
    item = Item("fig1", "a figure", "1", tuple(rows), ATTACKED, figure=Points("β", log))
    cells = [cell(row.name, "PGD", 10 * row.x, 50.0 if row.x else None) for row in rows]
    request = Request(Path(tmp_path))
    path = drawing.draw(item, rows, cells, request, Networks(request), tmp_path / "figure.png")
    drawn = numbers(path)
    assert [(row["line"], float(row["x"])) for row in drawn] == [
        (line, x) for line in ("with", "without") for x in (0.0, 1.0, 6.0)
    ]
    assert all(float(row["ours"]) == 10 * float(row["x"]) for row in drawn)
    assert [row["paper"] for row in drawn[:3]] == ["", "50.0", "50.0"]


def test_a_table_is_drawn_as_bars_and_what_is_not_measured_is_left_out(tmp_path):
    rows = (Row("a"), Row("b"))
    item = Item("table1", "a table", "1", rows, ATTACKED)
    cells = [cell("a", "Natural", 90.0, 92.0), Cell("b", "Natural", 91.0, {})]
    request = Request(Path(tmp_path))
    path = drawing.draw(item, rows, cells, request, Networks(request), tmp_path / "figure.png")
    (only,) = numbers(path)
    assert (only["row"], only["ours"], only["paper"]) == ("a", "90.0", "92.0")
    empty = tmp_path / "empty.png"
    assert drawing.draw(item, rows, cells[1:], request, Networks(request), empty) is None
    assert not empty.exists()


def test_curves_are_those_of_the_networks_that_are_trained_to_the_end(tmp_path):
    rows = [Row(f"β = {beta}", trained("quickstart", epochs=2, beta=beta)) for beta in (1, 6)]
    item = Item("fig2", "curves", "1", tuple(rows), figure=Curves(("train_robust_accuracy",)))
    request = Request(Path(tmp_path))
    networks = Networks(request)
    for row, epochs in zip(rows, (2, 1), strict=True):
        folder = Path(networks.config(row.training, 1).workdir)
        folder.mkdir(parents=True)
        log = [{**dict.fromkeys(KEYS, 0.5), "epoch": e, "step": e} for e in range(1, epochs + 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in log))
    path = drawing.draw(item, rows, [], request, networks, tmp_path / "figure.png")
    assert {(row["run"], row["epoch"]) for row in numbers(path)} == {("β = 1", "1"), ("β = 1", "2")}
